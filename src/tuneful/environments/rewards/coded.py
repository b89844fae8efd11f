"""A reward for code that passes its tests."""

from __future__ import annotations

import ast
import os
from typing import Any, Literal

from pydantic import PositiveInt

from tuneful.core.types import Example
from tuneful.environments.rewards.reference import Slow, fenced, wanted
from tuneful.environments.sandbox import Limits, run


class UnitTests(Slow):
    """The share of tests that the reply's code passes: its last block of code, or all of it. Python's standard library
    is all that the code can import.

    The tests are the example's label: a list of texts, each of them one test, or one text of Python. In one text every
    `assert` and every call at the outermost level is a test, and the rest (imports, functions) is run between them.
    See `environments/sandbox.py` for what keeps the code away from everything else, and what does not."""

    kind: Literal["unit_tests"] = "unit_tests"
    seconds: PositiveInt = 4
    """Of a processor, that code and tests may take; three times as much by the clock."""
    megabytes: PositiveInt = 512
    """Of memory."""
    at_once: PositiveInt = 2
    """Replies tested at the same moment."""
    every: bool = False
    """1 if every test passes, else 0."""

    @property
    def clock(self) -> float:
        return self._limits.clock

    @property
    def _limits(self) -> Limits:
        return Limits(self.seconds, self.megabytes)

    def lacking(self) -> list[str]:
        if os.name == "posix":
            return []
        return ["unit_tests: code is run apart by means of Linux and macOS only; use one of them, such as WSL"]

    def __call__(self, reply: str, example: Example) -> float:
        tests = cases(wanted(example))
        verdict = run(fenced(reply), [test for test, _ in tests], self._limits)
        passed = [found for found, (_, counts) in zip(verdict.passed, tests, strict=True) if counts]
        if not passed:
            raise ValueError(f"{example.place}: there is no test; a test is an `assert` or a call")
        return float(all(passed)) if self.every else sum(passed) / len(passed)


def cases(tests: Any) -> list[tuple[str, bool]]:
    """Pieces of Python in the order they are run in, and whether each is a test."""
    if isinstance(tests, list | tuple):
        return [(str(test), True) for test in tests]
    return [(ast.unparse(one), isinstance(one, ast.Assert | ast.Expr)) for one in ast.parse(str(tests)).body]
