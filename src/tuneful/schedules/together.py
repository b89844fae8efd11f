"""Several schedules as one: each makes its own updates, spread evenly over those of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tuneful.core.policy import Policy
from tuneful.core.types import Step


class Part(Protocol):
    """A schedule that never ends a task."""

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]: ...


@dataclass(frozen=True, slots=True)
class TogetherSteps:
    """Update number n of `total` holds the next step of every part that is due: of one that makes t steps, floor(n t /
    total) are made before it. With t = total for some part no update is empty."""

    parts: Mapping[str, Part]  # by task
    counts: Mapping[str, int]  # steps of each
    total: int

    def __len__(self) -> int:
        return self.total

    def made(self, part: str, number: int) -> int:
        """How many steps of a part are made in the first `number` updates."""
        return number * self.counts[part] // self.total

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        running = {
            name: part.steps(policy.of(name), self.made(name, start)) for name, part in self.parts.items()
        }  # fmt: skip
        for number in range(start, self.total):
            due = [name for name in self.parts if self.made(name, number + 1) > self.made(name, number)]
            yield joined([next(running[name]) for name in due])


def joined(steps: Sequence[Step]) -> Step:
    """One update of all of them."""
    return Step(
        [batch for step in steps for batch in step.batches],
        sum(step.rows for step in steps),
        sum(step.tokens for step in steps),
        [row for step in steps for row in step.skipped],
        smaller=lambda: _smaller(steps),
    )


def _smaller(steps: Sequence[Step]) -> Step | None:
    """Each that can be is cut in smaller batches; None where none can."""
    found = [step.smaller() for step in steps]
    if not any(found):
        return None
    return joined([smaller or step for smaller, step in zip(found, steps, strict=True)])
