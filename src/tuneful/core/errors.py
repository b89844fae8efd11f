"""Every error Tuneful raises on purpose. A message says: subject, what was found, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable


class TunefulError(Exception):
    """Something a person should read; `exit_code` is what the command line ends with."""

    exit_code = 1
    told = False  # said already: of several ranks by the first one, or with what stands above


class InputError(TunefulError):
    """The input's fault: nothing was started, nothing was written."""

    exit_code = 2


class RecipeError(InputError):
    """One or many faults of a recipe, all reported at once."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("the recipe cannot run:\n" + "\n".join(f"  {problem}" for problem in self.problems))

    def __reduce__(self) -> tuple[type[RecipeError], tuple[list[str]]]:
        return RecipeError, (self.problems,)  # errors travel between processes


class DataError(InputError):
    """A file, row or column that cannot be used."""


class ModelError(InputError):
    """A model that is missing, damaged or refused for safety."""


class RunFolderError(InputError):
    """A run folder that is in use, unreadable, unwritable or from another version."""


class CheckpointError(InputError):
    """A checkpoint that is damaged or belongs to another run."""


class EndpointError(TunefulError):
    """A model behind an address that does not answer; `passing` if it may a moment later."""

    def __init__(self, said: str, *, passing: bool = True) -> None:
        super().__init__(said)
        self.passing = passing


class OutOfMemory(TunefulError):
    """Not even the smallest part of an update fits."""


class Diverged(TunefulError):
    """Training produced a number that is not finite; the last good state was kept."""


class GateBroken(TunefulError):
    """The run ended, and a gate of the recipe does not hold."""

    exit_code = 3
