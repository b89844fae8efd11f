"""The data coach: which rows to mend before anything is learned of them, and what the rows cover."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import torch

from tuneful.core.types import Said
from tuneful.data.duplicates import said_in
from tuneful.data.labels import as_list, name_of
from tuneful.data.patch import SHOWN, Kind, Line
from tuneful.evaluation.coverage import Point
from tuneful.evaluation.words import words
from tuneful.models.landscape import grouped, likeness, plane, vendi
from tuneful.run.looked import Looked, Say, look_at
from tuneful.run.mislabelled import Judged, judge
from tuneful.run.oddities import answers, leaks, outliers, repeats
from tuneful.run.people import people_in
from tuneful.run.prepare import Prepared

KINDS: tuple[Kind, ...] = get_args(Kind)
GROUPS = 12  # at most; more crowd a map
LISTED = 50  # rows least like what is asked


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that lie together."""

    name: str
    rows: int
    held_out: int
    suspects: int
    label: str | None  # that most of its rows have
    share: float | None  # of the rows that have it
    example: str  # the row nearest to its middle


@dataclass(frozen=True, slots=True)
class Coached:
    """`lines` are about rows that are learned, of each kind the surest first; `held_out` about rows that are not, which
    no patch changes."""

    lines: list[Line]
    held_out: list[Line]
    facts: Mapping[str, Any]
    groups: list[Group]
    points: list[Point]

    def of(self, kind: Kind) -> list[Line]:
        return [line for line in self.lines if line.kind == kind]

    def as_json(self) -> dict[str, Any]:
        return {
            **self.facts,
            "suggestions": [line.model_dump() for line in self.lines],
            "held_out": [line.model_dump() for line in self.held_out],
            "groups": [asdict(group) for group in self.groups],
        }


def coach(prepared: Prepared, say: Say, *, encoder: str | None = None, language: str = "en") -> Coached:
    """Looks at rows as a run would split them, so that what is suggested about rows that are learned comes from those
    rows alone. Raises InputError."""
    looked = look_at(prepared, encoder, language, say)
    judged = judge(looked)
    found = [*judged.lines, *repeats(looked, judged.belief), *leaks(looked), *outliers(looked)]
    if looked.writes:
        found += answers(looked)
    lines = _once(found)
    groups, points = _terrain(looked, lines)
    return Coached(lines, judged.held_out, _facts(looked, judged, lines), groups, points)


def _once(found: Sequence[Line]) -> list[Line]:
    """Of each kind the surest first, a row once in each. A row is accepted by one line alone, or a person who takes
    that back would find it done by another."""
    kept: dict[tuple[str, Kind], Line] = {}
    accepted: set[str] = set()
    for line in sorted(found, key=lambda line: (KINDS.index(line.kind), -line.sure)):
        if (line.place, line.kind) in kept:
            continue
        if line.accept and line.place in accepted:
            line = line.model_copy(update={"accept": False})
        accepted |= {line.place} if line.accept else set()
        kept[line.place, line.kind] = line
    return list(kept.values())


def _facts(looked: Looked, judged: Judged, lines: Sequence[Line]) -> dict[str, Any]:
    say, xray = words(looked.language), looked.prepared.xray
    counts = {kind: [line for line in lines if line.kind == kind] for kind in KINDS}
    score = vendi(looked.vectors)
    balance = {name: count for name, count in xray.balance.items() if count}
    return {
        "encoder": looked.encoder,
        "rows": {"looked_at": len(looked.rows), "train": looked.of, "held_out": len(looked.held)},
        "counts": {
            kind: {"found": len(of), "accepted": sum(line.accept for line in of)} for kind, of in counts.items()
        },
        "labels": judged.facts,
        "balance": {"largest": max(balance.values()), "smallest": min(balance.values()),
                    "rare": sorted(balance, key=lambda name: balance[name])[:5]} if balance else None,
        "lengths": _lengths(looked),
        "diversity": {"vendi": round(score, 2), "rows": len(looked.rows), "distinct_2": xray.diversity},
        "people": people_in(looked),
        "least_like": _least_like(looked),
        "not_applied": [say[f"said_{said.key}"].format(**said.facts) for said in _not_applied(looked, judged)],
    }  # fmt: skip


def _lengths(looked: Looked) -> dict[str, int]:
    """In characters."""
    sizes = sorted(len(said_in(row)) for row in looked.rows)
    shares = {"shortest": 0.0, "tenth": 0.1, "median": 0.5, "ninetieth": 0.9, "longest": 1.0}
    return {name: sizes[round(share * (len(sizes) - 1))] for name, share in shares.items()}


def _least_like(looked: Looked) -> list[dict[str, Any]]:
    if not looked.held:
        return []
    like, nearest = likeness(looked.vectors, looked.held_vectors)
    return [
        {"row": str(looked.rows[place].place), "text": said_in(looked.rows[place])[:SHOWN],
         "likeness": round(float(like[place]), 4), "nearest": str(looked.held[int(nearest[place])][1].place)}
        for place in like.argsort()[:LISTED].tolist()
    ]  # fmt: skip


def _not_applied(looked: Looked, judged: Judged) -> Iterator[Said]:
    """What nothing can be said of here, and why."""
    yield from judged.silent
    if looked.of > len(looked.rows) or looked.prepared.stream is not None:
        of = looked.of if looked.prepared.stream is None else len(looked.prepared.stream)
        yield Said("coach_sampled", {"n": len(looked.rows), "rows": of})
    if not looked.held:
        yield Said("coach_no_held_out")
    if not looked.writes:
        yield Said("coach_no_answers")
    if looked.rows[0].positive is not None:
        yield Said("coach_pairs")


def _terrain(looked: Looked, lines: Sequence[Line]) -> tuple[list[Group], list[Point]]:
    """Groups, the largest first, and where rows lie on the plane on which they differ most."""
    vectors = torch.cat([looked.vectors, looked.held_vectors])
    mean, directions, _ = plane(looked.vectors)
    places = (vectors - mean) @ directions
    count = min(GROUPS, max(2, round(math.sqrt(len(looked.rows) / 2))))
    found, centres = grouped(looked.vectors, count, looked.prepared.recipe.seed)
    order = torch.bincount(found).argsort(descending=True)
    rank = order.argsort()
    own = rank[torch.cat([found, (looked.held_vectors @ centres.T).argmax(1)])]
    # The first kind stands for a row that several kinds name.
    marks = {line.place: line.kind for line in reversed(lines)}
    rows = [*looked.rows, *(example for _, example in looked.held)]
    points = [
        Point(float(x), float(y), int(group), marks.get(str(row.place), "") if number < len(looked.rows) else "",
              number >= len(looked.rows), f"{row.place}: {said_in(row)[:100]}")
        for number, ((x, y), group, row) in enumerate(zip(places.tolist(), own.tolist(), rows, strict=True))
    ]  # fmt: skip
    middles = (looked.vectors @ centres[order].T).argmax(0).tolist()
    groups = [_group(looked, points, number, middle) for number, middle in enumerate(middles)]
    return groups, points


def _group(looked: Looked, points: Sequence[Point], number: int, middle: int) -> Group:
    members = [place for place in range(len(looked.rows)) if points[place].group == number]
    label, share = None, None
    if looked.labels is not None and looked.labels.kind != "number":
        names = Counter(name_of(one) for place in members for one in as_list(looked.rows[place]))
        label, most = names.most_common(1)[0]
        share = round(most / len(members), 4)
    text = " ".join(said_in(looked.rows[middle]).split())
    return Group(
        name=label or text[:24], rows=len(members),
        held_out=sum(point.group == number for point in points[len(looked.rows) :]),
        suspects=sum(bool(points[place].mark) for place in members), label=label, share=share, example=text[:SHOWN],
    )  # fmt: skip
