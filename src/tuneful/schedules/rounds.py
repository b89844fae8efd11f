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
from tuneful.objectives.policy_gradient import ALIKE
from tuneful.schedules.epochs import Collate, cut_up, order_of
from tuneful.schedules.rewarded import figures

FIRST, MORE, MOST, AROUND = 0.5, 0.05, 0.95, 0.25  # of the expected answer: at first, a round, at most, by lot


class Learns(Protocol):
    """What an objective says of answers and their rewards."""

    @property
    def weighs_costs(self) -> bool: ...
    @property
    def compares_answers(self) -> bool: ...
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


@dataclass(frozen=True, slots=True)
class Group:
    """Answers to one prompt; `rewards` (G,) are not a number where an answer counts for nothing."""

    plain: list[Played]
    rewards: np.ndarray


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
    teacher: Policy | None = None  # whose log-probabilities are compared, in place of the model's before tuning

    def drawn(self, policy: Policy, number: int) -> Round:
        """A round: answers to its prompts, and to others where those all did alike."""
        began, kept, seen = time.perf_counter(), list[Group](), list[int]()
        metrics: Mapping[str, float] = {}
        wanted = min(self.prompts, len(self.rows))
        for attempt in range(self.redraw + 1):
            places = self._asked(number, attempt, wanted, seen)
            if not places:
                break
            seen += places
            rows = [self.rows[at] for at in places]
            tried = self._tried(policy, rows, [number, attempt])
            groups = [self._group(row, own) for row, own in zip(rows, tried, strict=True)]
            metrics = metrics or figures(tried)
            teaching = [group for group in groups if self._teaches(group)]
            kept += teaching if self.redraw else groups
            wanted -= len(teaching)
            if not wanted:
                break
        spent = {"drawn_again": float(len(seen) - min(self.prompts, len(self.rows)))}
        if self.hints.wanted is not None and "reward" in metrics:
            spent["hint"] = self.hints.share
            self.hints.after(metrics["reward"])
        found = self._learned(policy, kept)
        found.metrics = {**metrics, **found.metrics, **spent, "sampling_seconds": time.perf_counter() - began}
        return found

    def _asked(self, number: int, attempt: int, count: int, seen: Sequence[int]) -> list[int]:
        """Every prompt once an epoch; those that stand in for others are drawn by lot from what was not asked yet."""
        if attempt:
            rest = [at for at in range(len(self.rows)) if at not in seen]
            return [rest[at] for at in np.random.default_rng([self.seed, number, attempt]).permutation(len(rest))][
                :count
            ]
        places = range(number * count, (number + 1) * count)
        orders = {epoch: order_of([1.0] * len(self.rows), [self.seed, epoch])
                  for epoch in {at // len(self.rows) for at in places}}  # fmt: skip
        return [int(orders[at // len(self.rows)][at % len(self.rows)]) for at in places]

    def _tried(self, policy: Policy, rows: Sequence[Row], key: Sequence[int]) -> list[list[Tried]]:
        """Answers to one prompt have one episode seed, so that they differ by nothing else."""
        seeds = np.random.SeedSequence([self.seed, *key]).generate_state(len(rows) + 1)
        asked = [(row.example, int(seed)) for row, seed in zip(rows, seeds, strict=False)]
        last = int(seeds[-1])
        hints = self.hints.drawn(len(rows), last)
        return self.player.play(policy, asked, count=self.answers, seed=last, hints=hints)

    def _group(self, row: Row, tried: Sequence[Tried]) -> Group:
        rewards = [one.reward if self._counts(one) else np.nan for one in tried]
        return Group([self._played(row, one) for one in tried], np.array(rewards))

    def _teaches(self, group: Group) -> bool:
        known = group.rewards[~np.isnan(group.rewards)]
        if not len(known) or not self.objective.compares_answers:
            return bool(len(known))
        return bool(known.max() - known.min() > ALIKE)

    def _learned(self, policy: Policy, groups: Sequence[Group]) -> Round:
        """Rows with an advantage, and what other answers to these prompts add to the denominator."""
        if not groups:
            return Round([])
        costs = self._costs(policy, [group.plain for group in groups])
        advantages = self.objective.advantages(np.array([group.rewards for group in groups]), costs)
        told = [
            (row, gain)
            for group, gains in zip(groups, advantages, strict=True)
            for row, reward, gain in zip(group.plain, group.rewards, gains, strict=True)
            if not np.isnan(reward)
        ]
        learned = [replace(row, advantages=gain) for row, gain in told if np.any(gain)]
        learned.sort(key=lambda row: row.ids.tolist())
        spent = [float(cost.sum()) for group in costs for cost in group if len(cost)]
        metrics = {"kl": float(np.mean(spent))} if self.objective.weighs_costs and spent else {}
        return Round(learned, sum(row.units for row, gain in told if not np.any(gain)), metrics)

    def _counts(self, tried: Tried) -> bool:
        return not np.isnan(tried.reward) and (self.objective.truncated or not tried.truncated)

    def _played(self, row: Row, tried: Tried) -> Played:
        weight, units = self.objective.share(len(tried.written), self.player.new_tokens)
        learn = np.zeros(len(tried.ids), dtype=np.float32)
        learn[tried.written] = weight
        return Played(
            row.example, np.asarray(tried.ids, dtype=np.int32), learn, prompt=tried.prompt, units=units,
            advantages=np.zeros(len(tried.written), dtype=np.float32), drawn=np.asarray(tried.drawn, dtype=np.float32),
        )  # fmt: skip

    def _costs(self, policy: Policy, plain: Sequence[Sequence[Played]]) -> list[list[np.ndarray]]:
        """Of every token that was written log (p / p before tuning), or of the teacher; zeros where nobody asks."""
        if not self.objective.weighs_costs:
            return [[np.zeros(len(row.drawn)) for row in group] for group in plain]
        rows = [row for group in plain for row in group]
        order = [
            index for index in sorted(range(len(rows)), key=lambda at: rows[at].ids.tolist()) if rows[index].learned
        ]
        was = {index: row.drawn for index, row in enumerate(rows)}
        left = iter(order)
        parts = cut_up([rows[index] for index in order], self.collate, self.micro_tokens, even=False) if order else []
        for part in parts:
            was.update(zip([next(left) for _ in part], self._before(policy, self.collate(part), part), strict=True))
        told = iter(range(len(rows)))
        return [[row.drawn - was[next(told)] for row in group] for group in plain]

    def _before(self, policy: Policy, batch: Batch, rows: Sequence[Row]) -> list[np.ndarray]:
        """Of each row the log-probabilities before tuning, or of the teacher, of what was written."""
        batch = place(batch, policy.device)
        with torch.no_grad(), policy.gathered():
            read = policy.reference(batch) if self.teacher is None else self.teacher.read(batch.inputs)
            logprobs = read.token_logprobs(batch.targets["tokens"], batch.targets["where"])
        policy.forget()
        ends = np.cumsum([row.learned for row in rows])[:-1]
        return np.split(logprobs.float().cpu().numpy(), ends)
