"""Ctrl-C on the command line."""

from __future__ import annotations

import click


class Stop:
    """The first Ctrl-C asks for an orderly end, the second ends at once."""

    def __init__(self) -> None:
        self._asked = False

    def __call__(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        from tuneful.core.device import is_first

        if is_first():
            click.echo("\nstopping as soon as that can be done in order; press Ctrl-C again to stop at once", err=True)

    def asked(self) -> bool:
        return self._asked
