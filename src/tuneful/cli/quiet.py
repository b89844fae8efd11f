"""What every command does before a library can speak."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

Command = Callable[..., Any]


def quiet_libraries(command: Command) -> Command:
    """Libraries below us neither chat nor open connections."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from tuneful.core.device import hush

        hush()
        return command(*args, **kwargs)

    return wrapped
