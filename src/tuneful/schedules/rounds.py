"""A round: prompts are answered by the model as it is, and the answers become rows that teach what was worth more.

Shapes: P prompts, G answers to each.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

from tuneful.core.device import place
from tuneful.core.policy import Policy
from tuneful.core.types import Batch, Row
from tuneful.data.played import Played
from tuneful.models.playing import Player, Tried
from tuneful.schedules.epochs import Collate, cut_up, order_of
from tuneful.schedules.rewarded import figures

FIRST, MORE, MOST, AROUND = 0.5, 0.05, 0.95, 0.25  # of the expected answer: at first, a round, at most, by lot


class Learns(Protocol):
    """What an objective says of answers and their rewards."""

    @property
    def kl(self) -> float: ...
    @property
    def truncated(self) -> bool: ...
    def advantages(self, rewards_PG: np.ndarray, costs: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]: ...
    def share(self, tokens: int, limit: int) -> tuple[float, float]: ...


@dataclass(slots=True)
class Round:
    """What is learned from answers that were drawn together."""

    rows: list[Played]
    units: float = 0.0  # of answers that teach nothing and count in the denominator
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Hints:
    """Which share of the expected answer replies begin with, in the mean, so that about `wanted` is earned."""

    wanted: float | None = None  # None: there are none
    share: float = 0.0

    def __post_init__(self) -> None:
        self.share = FIRST if self.wanted is not None else 0.0

    def after(self, reward: float) -> None:
        """A round earned so much."""
        if self.wanted is not None:
            self.share = min(MOST, max(0.0, self.share + (MORE if reward < self.wanted else -MORE)))

    def drawn(self, count: int, key: int) -> list[float]:
        """Of each prompt, by lot around the mean, so that some are easier than others; none any more where it is 0."""
        if not self.share:
            return []
        lots = np.random.default_rng(key).uniform(-AROUND, AROUND, count)
        return [float(share) for share in (self.share + lots).clip(0.0, MOST)]


@dataclass(frozen=True, slots=True)
class Rounds:
    """A round is a function of its number, of the weights, and of how large hints are."""

    rows: Sequence[Row]
    collate: Collate
    player: Player
    objective: Learns
    prompts: int  # of a round
    answers: int  # to each
    redraw: int  # how often others are asked in place of prompts that teach nothing
    micro_tokens: int
    seed: int
    hints: Hints = field(default_factory=Hints)

    def drawn(self, policy: Policy, number: int) -> Round:
        """A round: answers to its prompts, and to others where those all did alike."""
        began, learned, units = time.perf_counter(), list[Played](), 0.0
        metrics: Mapping[str, float] = {}
        wanted = min(self.prompts, len(self.rows))
        for attempt in range(self.redraw + 1):
            rows = self._asked(number, attempt, wanted)
            tried = self._tried(policy, rows, [number, attempt])
            found, silent, groups = self._learned(policy, rows, tried)
            learned += found
            units += silent
            metrics = metrics or figures(tried)
            wanted -= groups
            if not wanted:
                break
        learned.sort(key=lambda row: row.ids.tolist())
        spent = {"drawn_again": float(attempt), "sampling_seconds": time.perf_counter() - began}
        if self.hints.wanted is not None:
            spent["hint"] = self.hints.share
            self.hints.after(metrics["reward"])
        return Round(learned, units, {**metrics, **spent})

    def _asked(self, number: int, attempt: int, count: int) -> list[Row]:
        """Every prompt once an epoch; those that stand in for others are drawn by lot."""
        if attempt:
            rng = np.random.default_rng([self.seed, number, attempt])
            return [self.rows[index] for index in rng.choice(len(self.rows), count, replace=False)]
        places = range(number * count, (number + 1) * count)
        orders = {epoch: order_of([1.0] * len(self.rows), [self.seed, epoch])
                  for epoch in {at // len(self.rows) for at in places}}  # fmt: skip
        return [self.rows[orders[at // len(self.rows)][at % len(self.rows)]] for at in places]

    def _tried(self, policy: Policy, rows: Sequence[Row], key: Sequence[int]) -> list[list[Tried]]:
        """Answers to one prompt have one episode seed, so that they differ by nothing else."""
        seeds = np.random.SeedSequence([self.seed, *key]).generate_state(len(rows) + 1)
        asked = [(row.example, int(seed)) for row, seed in zip(rows, seeds, strict=False)]
        last = int(seeds[-1])
        hints = self.hints.drawn(len(rows), last)
        return self.player.play(policy, asked, count=self.answers, seed=last, hints=hints)

    def _learned(
        self, policy: Policy, rows: Sequence[Row], tried: Sequence[Sequence[Tried]]
    ) -> tuple[list[Played], float, int]:
        """Rows with an advantage; what others add to the denominator, but of prompts that others stand in for; and how
        many prompts teach anything."""
        counts = [[self._counts(one) for one in group] for group in tried]
        rewards = np.array([
            [one.reward if counted else np.nan for one, counted in zip(group, own, strict=True)]
            for group, own in zip(tried, counts, strict=True)
        ])  # fmt: skip
        plain = [[self._played(row, one) for one in group] for row, group in zip(rows, tried, strict=True)]
        costs = self._costs(policy, plain)
        advantages = self.objective.advantages(rewards, costs)
        learned, silent, groups = list[Played](), 0.0, 0
        for group, own, gains in zip(plain, counts, advantages, strict=True):
            told = [(row, gain) for row, counted, gain in zip(group, own, gains, strict=True) if counted]
            found = [replace(row, advantages=gain) for row, gain in told if np.any(gain)]
            silent += sum(row.units for row, gain in told if not np.any(gain)) if found or not self.redraw else 0.0
            learned += found
            groups += bool(found)
        return learned, silent, groups

    def _counts(self, tried: Tried) -> bool:
        return not np.isnan(tried.reward) and bool(tried.written) and (self.objective.truncated or not tried.truncated)

    def _played(self, row: Row, tried: Tried) -> Played:
        weight, units = self.objective.share(len(tried.written), self.player.new_tokens)
        learn = np.zeros(len(tried.ids), dtype=np.float32)
        learn[tried.written] = weight
        return Played(
            row.example, np.asarray(tried.ids, dtype=np.int32), learn, prompt=tried.prompt, units=units,
            advantages=np.zeros(len(tried.written), dtype=np.float32), drawn=np.asarray(tried.drawn, dtype=np.float32),
        )  # fmt: skip

    def _costs(self, policy: Policy, plain: Sequence[Sequence[Played]]) -> list[list[np.ndarray]]:
        """Of every token that was written log (p / p before tuning); zeros where nobody asks."""
        if not self.objective.kl:
            return [[np.zeros(len(row.drawn)) for row in group] for group in plain]
        rows = [row for group in plain for row in group]
        order = [
            index for index in sorted(range(len(rows)), key=lambda at: rows[at].ids.tolist()) if rows[index].learned
        ]
        was = {index: row.drawn for index, row in enumerate(rows)}
        left = iter(order)
        for part in cut_up([rows[index] for index in order], self.collate, self.micro_tokens, even=False):
            was.update(zip([next(left) for _ in part], self._before(policy, self.collate(part), part), strict=True))
        told = iter(range(len(rows)))
        return [[row.drawn - was[next(told)] for row in group] for group in plain]

    def _before(self, policy: Policy, batch: Batch, rows: Sequence[Row]) -> list[np.ndarray]:
        """Of each row the log-probabilities before tuning of what was written."""
        batch = place(batch, policy.device)
        with torch.no_grad(), policy.gathered():
            logprobs = policy.reference(batch).token_logprobs(batch.targets["tokens"], batch.targets["where"])
        policy.forget()
        ends = np.cumsum([row.learned for row in rows])[:-1]
        return np.split(logprobs.float().cpu().numpy(), ends)
