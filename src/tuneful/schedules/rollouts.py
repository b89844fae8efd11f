"""Prompts are answered by the model as it is now, the answers are rewarded, and are what it learns from next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from tuneful.core.errors import RecipeError
from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Row, Step
from tuneful.data.played import Played
from tuneful.models.playing import Player
from tuneful.schedules.epochs import Collate, Cut, Room, Streamed, cut_up, smaller
from tuneful.schedules.rounds import Hints, Learns, Round, Rounds

KEPT = {"ids": np.int32, "learn": np.float32, "advantages": np.float32, "drawn": np.float32}  # arrays of a row


class Rollouts(Spec):
    """On-policy: answers are drawn when an update is asked for, at temperature 1, by the weights it will change."""

    rounds: ClassVar[int] = 1
    usual_epochs: ClassVar[int] = 1

    kind: Literal["rollouts"] = "rollouts"
    prompts: PositiveInt = 8
    """Prompts of an update."""
    answers: Annotated[int, Field(ge=2)] = 8
    """Answers, or episodes, to each prompt, which are compared with one another."""
    new_tokens: PositiveInt = 128
    """The most tokens of one reply."""
    redraw: NonNegativeInt = 1
    """Prompts whose answers are all worth the same teach nothing: so many times an update asks others instead (Yu et
    al. 2025, arXiv:2503.14476, section 3.2). 0: they count in the denominator, as first described."""
    hints: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Begin each reply with a part of the row's own answer, so large that the mean reward is about this: about half of
    it at first, then a twentieth more or less an update, until none is needed. For tasks that a small model never gets
    right by itself, so that nothing tells its answers apart (AdaPrefix-GRPO, 2026, arXiv:2607.07674). Rewards should go
    from 0 to 1. None: no hints."""
    updates: PositiveInt = 1
    """Updates that learn from the same answers."""
    epochs: PositiveFloat | None = None
    """How often each prompt is asked; parts of an epoch are allowed. None: once."""
    steps: PositiveInt | None = None
    """Updates; given, it stands instead of `epochs`."""

    def learns(self, rows: Sequence[Row]) -> list[Row]:
        return list(rows)

    def over(
        self, rows: Sequence[Row] | Streamed, collate: Collate, cut: Cut, *, total: int, seed: int
    ) -> RolloutSteps:
        """The steps of a run; who plays is said later. Raises RecipeError for what is not made for it."""
        if isinstance(rows, Streamed):
            raise RecipeError(["data.streaming: prompts are held while they are tried; set it to false"])
        return RolloutSteps(rows, collate, cut, total, self, seed)


@dataclass(slots=True)
class RolloutSteps:
    """A round is a function of its number and of the weights, so a resumed run sees what an uninterrupted one would;
    one that is under way is part of the state."""

    rows: Sequence[Row]
    collate: Collate
    cut: Cut
    total: int
    settings: Rollouts
    seed: int = 0
    rounds: Rounds | None = None
    _round: Round | None = None

    def __len__(self) -> int:
        return self.total

    def played_by(self, player: Player, objective: Learns, teacher: Policy | None = None) -> RolloutSteps:
        """The same, with who plays, what is learned of it, and who says how likely it should have been."""
        told = self.settings
        rounds = Rounds(
            self.rows, self.collate, player, objective, prompts=told.prompts, answers=told.answers, redraw=told.redraw,
            micro_tokens=self.cut.micro_tokens, seed=self.seed, hints=Hints(told.hints), teacher=teacher,
        )  # fmt: skip
        return replace(self, rounds=rounds)

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        assert self.rounds is not None, "nobody plays"
        room = Room(self.cut.micro_tokens)
        for number in range(start, self.total):
            first = number % self.settings.updates == 0
            if first or self._round is None:
                self._round = self.rounds.drawn(policy, number // self.settings.updates)
            yield self._step(self._round, room, first=first)

    def state(self) -> Mapping[str, Any]:
        """How large hints are, and the round that is under way, where several updates learn from one."""
        share = {} if self.rounds is None else {"hint": self.rounds.hints.share}
        if self.settings.updates == 1 or self._round is None:
            return share
        places = {id(row.example): number for number, row in enumerate(self.rows)}
        told = [
            {name: getattr(row, name).tolist() for name in KEPT}
            | {"row": places[id(row.example)], "prompt": row.prompt, "units": row.units}
            for row in self._round.rows
        ]
        return {**share, "rows": told, "units": self._round.units}

    def load(self, state: Mapping[str, Any]) -> None:
        if self.rounds is not None and "hint" in state:
            self.rounds.hints.share = state["hint"]
        if "rows" in state:
            self._round = Round([self._row(told) for told in state["rows"]], state["units"])

    def _row(self, told: Mapping[str, Any]) -> Played:
        arrays: dict[str, Any] = {name: np.asarray(told[name], dtype=kind) for name, kind in KEPT.items()}
        return Played(self.rows[told["row"]].example, prompt=told["prompt"], units=told["units"], **arrays)

    def _step(self, found: Round, room: Room, *, first: bool) -> Step:
        """An update from a round; of a round without anything to learn it changes nothing."""
        metrics = found.metrics if first else {}
        parts = self._cut_up(found.rows, room.tokens)
        return replace(self._of(parts, found.units, room), rows=len(found.rows), tokens=sum(map(len, found.rows)),
                       metrics=metrics)  # fmt: skip

    def _of(self, parts: Sequence[Sequence[Row]], units: float, room: Room) -> Step:
        batches = [self.collate(part) for part in parts]
        if batches and units:
            batches[0] = replace(batches[0], units=batches[0].units + units)
        return Step(batches, smaller=lambda: self._smaller(parts, units, room))

    def _smaller(self, parts: Sequence[Sequence[Row]], units: float, room: Room) -> Step | None:
        found = smaller(parts, self._cut_up, room)
        return None if found is None else self._of(found, units, room)

    def _cut_up(self, rows: Sequence[Row], most: int) -> list[list[Row]]:
        return cut_up(rows, self.collate, most, even=False) if rows else []
