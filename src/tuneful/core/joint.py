"""Policies over one body, as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tuneful.core.policy import Policy

if TYPE_CHECKING:
    from tuneful.core.protocols import Learning


class Joint(Policy):
    """Each of these policies reads the batches of its task; `attached` is all of what they tune. Passes are made by
    them alone, so nobody asks this one for the model before tuning."""

    def __init__(self, views: Mapping[str, Policy], attached: Learning) -> None:
        first = next(iter(views.values()))
        super().__init__(first.network, attached, autocast=first.autocast)  # type: ignore[arg-type]
        self._views = dict(views)

    def of(self, task: str) -> Policy:
        return self._views[task]

    def forget(self) -> None:
        super().forget()
        for view in self._views.values():
            view.forget()
