"""Every row once an epoch, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import PositiveFloat, PositiveInt

from tuneful.core.order import Scattered
from tuneful.core.policy import Policy
from tuneful.core.protocols import Vary
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Drawn, Row, Step
from tuneful.schedules.ahead import ahead
from tuneful.schedules.curriculum import CURRICULA, Curriculum, Pace

AHEAD = 4  # steps of streamed rows that wait to be learned
LEAST = 8  # tokens at once, below which memory is not what is wrong


class Epochs(Spec):
    """The whole data again and again."""

    rounds: ClassVar[int] = 1
    usual_epochs: ClassVar[int] = 3  # of a round, with few labels

    kind: Literal["epochs"] = "epochs"
    epochs: PositiveFloat | None = None
    """How often each row is seen; parts of an epoch are allowed. None: the objective's own number."""
    steps: PositiveInt | None = None
    """Updates; given, it stands instead of `epochs`."""
    curriculum: CURRICULA.field | None = None  # type: ignore[name-defined]
    """From easy rows to hard ones: by `length`, or by the model's own `loss` before it learns. None: by lot alone."""

    def learns(self, rows: Sequence[Row]) -> list[Row]:
        """Those with something to learn as they stand; others wait for a schedule that labels them."""
        return [row for row in rows if row.counts]

    def over(self, rows: Sequence[Row] | Streamed, collate: Collate, cut: Cut, *, total: int, seed: int) -> EpochSteps:
        """The steps of a run."""
        rows = rows if isinstance(rows, Streamed) else self.learns(rows)
        return EpochSteps(rows, collate, cut, total, seed, pace=pace_of(self.curriculum))


@dataclass(frozen=True, slots=True)
class Cut:
    """How rows become steps, and steps micro-batches."""

    rows_per_step: int
    micro_tokens: int  # memory: the model reads no more at once, shared tokens counted once, except one longer row
    ranks: int = 1  # processes a step is dealt to
    rank: int = 0  # which of them this one is
    even: bool = False  # a step's micro-batches are about as long as one another, as their rows are told apart
    whole: bool = False  # rows are told apart by those read with them, so smaller batches would ask something else


@dataclass(slots=True)
class Room:
    """How many tokens are read at once; less from the time on when memory was refused."""

    tokens: int

    def halve(self) -> bool:
        """False when what is left is hardly anything."""
        if self.tokens < 2 * LEAST:
            return False
        self.tokens //= 2
        return True


class Collate(Protocol):
    """How rows become a micro-batch, and how many tokens of it a row adds."""

    def __call__(self, rows: Sequence[Row]) -> Batch: ...
    def added(self, row: Row, before: Row | None) -> int: ...


@runtime_checkable
class Streamed(Protocol):
    """Rows that are not held: read and encoded when they are drawn, those that cannot be learned passed over."""

    def __len__(self) -> int: ...
    def draw(self, places: np.ndarray) -> Drawn: ...


@dataclass(frozen=True, slots=True)
class EpochSteps:
    """Step number n is a function of n, so a resumed run sees what an uninterrupted one would."""

    rows: Sequence[Row] | Streamed
    collate: Collate
    cut: Cut
    total: int
    seed: int = 0
    vary: Vary | None = None
    strata: Callable[[Row], Hashable] | None = None  # of which each step gets its share
    apart: Callable[[Row], str] | None = None  # rows for which this differs are not read together
    pace: Pace | None = None  # how soon each row may be drawn; rows that are held

    def __len__(self) -> int:
        return self.total

    @property
    def steps_per_epoch(self) -> int:
        return max(1, -(-len(self.rows) // self.cut.rows_per_step))

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step]:
        room = Room(self.cut.micro_tokens)
        if isinstance(self.rows, Streamed):
            yield from ahead(partial(self._drawn, self.rows, room), start, self.total, AHEAD)
            return
        for rows in self.visits(self.rows, start):
            yield self._step(rows, room)

    def visits(self, rows: Sequence[Row], start: int = 0) -> Iterator[list[Row]]:
        """The rows of each step, as they are in it."""
        epoch, order = -1, np.empty(0, dtype=np.int64)
        again = order
        shares = None if self.pace is None else self.pace.shares(rows)
        for number in range(start, self.total):
            if shares is not None and (early := self._early(rows, shares, number)) is not None:
                keys = zip(early.tolist(), occurrences(early).tolist(), strict=True)
                # No epoch has this number, so these visits are no others.
                yield self._varied([rows[place] for place in early.tolist()], self.total + number, list(keys))
                continue
            if number // self.steps_per_epoch != epoch:
                epoch = number // self.steps_per_epoch
                order = self._order(rows, epoch)
                again = occurrences(order)
            part = self._part(number)
            places, keys = order[part].tolist(), zip(order[part].tolist(), again[part].tolist(), strict=True)
            yield self._varied([rows[place] for place in places], epoch, list(keys))

    def _early(self, rows: Sequence[Row], shares: np.ndarray, number: int) -> np.ndarray | None:
        """The rows of a step that may not draw from all; None for one that may."""
        part = self._part(number)
        size = part.stop - part.start
        assert self.pace is not None
        open_R = self.pace.places(shares, number, self.total, size)
        if open_R is None:
            return None
        order = self._ordered([rows[place] for place in open_R.tolist()], [self.seed, self.total + number])
        return open_R[order[:size]]

    def _order(self, rows: Sequence[Row], epoch: int) -> np.ndarray:
        return self._ordered(rows, [self.seed, epoch])

    def _ordered(self, rows: Sequence[Row], key: Sequence[int]) -> np.ndarray:
        times = [row.times for row in rows]
        if self.strata is None:
            return order_of(times, key)
        names: dict[Hashable, int] = {}
        strata = np.array([names.setdefault(self.strata(row), len(names)) for row in rows])
        return spread(order_of(times, key, strata), strata, key)

    def _part(self, number: int) -> slice:
        """Which places of an epoch a step takes: as equal in size as can be, the larger ones first."""
        size, larger = divmod(len(self.rows), self.steps_per_epoch)
        inside = number % self.steps_per_epoch
        start = inside * size + min(inside, larger)
        return slice(start, start + size + (inside < larger))

    def _drawn(self, rows: Streamed, room: Room, number: int) -> Step:
        """In an order that need not be held; a row that cannot be learned is named in the first epoch only."""
        epoch = number // self.steps_per_epoch
        drawn = rows.draw(Scattered(len(rows), [self.seed, epoch])[self._part(number)])
        first = number * self.cut.rows_per_step  # an example may bring several rows, but these are told apart
        varied = self._varied(drawn.rows, epoch, [(place, 0) for place in range(first, first + len(drawn.rows))])
        return replace(self._step(varied, room), skipped=() if epoch else drawn.skipped)

    def _varied(self, rows: list[Row], epoch: int, visits: Sequence[tuple[int, int]]) -> list[Row]:
        """As they are at this visit: of a place, for the so-and-so-manieth time in the epoch."""
        if self.vary is None:
            return rows
        return [
            self.vary(row, [self.seed, epoch, place, *([time] if time else [])])
            for row, (place, time) in zip(rows, visits, strict=True)
        ]

    def _step(self, rows: list[Row], room: Room) -> Step:
        # Neighbours in token order share prefixes; within a step order means nothing else.
        rows.sort(key=self._place)
        parts = self._cut_up(rows, self.cut.micro_tokens)
        if self.cut.ranks > 1:
            parts = self._dealt(rows)
        own = parts[self.cut.rank :: self.cut.ranks]
        # Every rank makes as many passes as the others: where weights are sharded, a pass takes all of them.
        idle = len(own) * self.cut.ranks < len(parts)
        if room.tokens < self.cut.micro_tokens:  # all ranks deal alike; what each reads at once is its own affair
            own = [piece for part in own for piece in self._cut_up(part, room.tokens)]
        batches = [self.collate(part) for part in own]
        if idle:
            batches.append(self.collate(rows[:1]).silent())
        return Step(batches, len(rows), sum(map(len, rows)), smaller=lambda: self._smaller(own, room))

    def _place(self, row: Row) -> Any:
        """Where it stands within a step."""
        return row.ids.tolist()

    def _kinds(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Those that may be read together."""
        kinds: dict[str, list[Row]] = {}
        for row in rows:
            kinds.setdefault("" if self.apart is None else self.apart(row), []).append(row)
        return list(kinds.values())

    def _cut_up(self, rows: Sequence[Row], most: int) -> list[list[Row]]:
        return [part for own in self._kinds(rows) for part in cut_up(own, self.collate, most, even=self.cut.even)]

    def _smaller(self, parts: Sequence[Sequence[Row]], room: Room) -> Step | None:
        """The rows of these parts in smaller ones."""
        if self.cut.whole:
            return None
        found = smaller(parts, self._cut_up, room)
        if found is None:
            return None
        return Step([self.collate(part) for part in found], smaller=partial(self._smaller, found, room))

    def _dealt(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Parts for all ranks."""
        parts = [self._even(own, len(cut_up(own, self.collate, self.cut.micro_tokens, even=self.cut.even)))
                 for own in self._kinds(rows)]  # fmt: skip
        return [part for own in parts for part in own]

    def _even(self, rows: Sequence[Row], needed: int) -> list[list[Row]]:
        """At least `needed` parts, about as long as one another, and as many for each rank where the rows suffice."""
        wanted = min(len(rows), -(-needed // self.cut.ranks) * self.cut.ranks)
        low, high = 1, self.cut.micro_tokens
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if len(pieces(rows, self.collate, middle)) <= wanted else (middle + 1, high)
        parts = pieces(rows, self.collate, high)
        while len(parts) < wanted:
            longest = max((part for part in parts if len(part) > 1), key=lambda part: sum(map(len, part)))
            place, half = parts.index(longest), len(longest) // 2
            parts[place : place + 1] = [longest[:half], longest[half:]]
        return parts


def smaller(
    parts: Sequence[Sequence[Row]], cut: Callable[[Sequence[Row], int], list[list[Row]]], room: Room
) -> list[list[Row]] | None:
    """The rows of these parts in more of them, as many as there is room for; None where there are no more."""
    rows = [row for part in parts for row in part]
    while len(parts) < len(rows):
        found = cut(rows, room.tokens)
        if len(found) > len(parts):
            return found
        if not room.halve():
            break
    return None


def pace_of(curriculum: Curriculum | None) -> Pace | None:
    """By length, until somebody knows better."""
    return None if curriculum is None else Pace(curriculum)


def order_of(times: Sequence[float], key: Sequence[int], strata: np.ndarray | None = None) -> np.ndarray:
    """The places of an epoch, which has as many as there are rows: each row once, or about as often as its `times` say
    beside those of others, by systematic sampling (Madow and Madow 1944) of the rows in an order drawn by lot. Of each
    of the `strata`, (R,) int64, it takes what the times of its rows add up to, one more or less."""
    rng = np.random.default_rng(list(key))
    order, count = rng.permutation(len(times)), len(times)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    if len(set(times)) < 2:
        return order
    ends = np.cumsum(np.asarray(times)[order])
    drawn = np.searchsorted(ends, (np.arange(count) + rng.random()) * ends[-1] / count, side="right")
    return rng.permutation(order[drawn.clip(max=count - 1)])


def spread(order: np.ndarray, strata: np.ndarray, key: Sequence[int]) -> np.ndarray:
    """The same places so that every stretch of them has its share of each of the `strata`, (R,) int64, a row or two
    more or less: those of one lie evenly, as seats are dealt by Webster's method; which comes first, and of equals,
    is drawn by lot."""
    rng, lies = np.random.default_rng([*key, 1]), np.empty(len(order))
    order = rng.permutation(order)
    for stratum in np.unique(strata):
        own = np.flatnonzero(strata[order] == stratum)
        lies[own] = (np.arange(len(own)) + 0.5) / len(own)
    return order[np.lexsort((rng.random(len(order)), lies))]


def occurrences(order: np.ndarray) -> np.ndarray:
    """For each entry how many equal ones stand before it."""
    found = np.zeros(len(order), dtype=np.int64)
    by_place = np.argsort(order, kind="stable")
    ordered = order[by_place]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else found
    found[by_place] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return found


def pieces(rows: Sequence[Row], collate: Collate, most: int) -> list[list[Row]]:
    """Neighbours together, up to `most` tokens."""
    parts: list[list[Row]] = [[]]
    held = 0
    for row in rows:
        more = collate.added(row, parts[-1][-1] if parts[-1] else None)
        if parts[-1] and held + more > most:
            parts.append([])
            held, more = 0, collate.added(row, None)
        parts[-1].append(row)
        held += more
    return parts


def cut_up(rows: Sequence[Row], collate: Collate, most: int, *, even: bool) -> list[list[Row]]:
    """Neighbours together, up to `most` tokens; `even` in parts about as long as one another."""
    parts = pieces(rows, collate, most)
    return evenly(rows, len(parts), most) or parts if even and len(parts) > 1 else parts


def evenly(rows: Sequence[Row], least: int, most: int) -> list[list[Row]] | None:
    """Neighbours together in parts about as long as one another, `least` of them or as few more as hold no more than
    `most` tokens; None where that would take parts of one row. Nothing is shared."""
    lengths = np.array(list(map(len, rows)))
    middles = np.cumsum(lengths) - lengths / 2
    for number in range(least, len(rows) // 2 + 1):
        owner = (middles * number // lengths.sum()).astype(np.int64)
        parts = [[rows[place] for place in np.flatnonzero(owner == part).tolist()] for part in range(number)]
        if all(len(part) > 1 and sum(map(len, part)) <= most for part in parts):
            return parts
    return None
