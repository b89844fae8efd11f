"""What will be learned, token by token, before anything is: the facts a person needs to trust a run, and the faults
for which it must not start."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tuneful.core.protocols import Processor
from tuneful.core.types import FORGOTTEN, Dropped, Encoded, Layout, Row, Said
from tuneful.data.duplicates import said_in
from tuneful.data.labels import LabelSet, alike, name_of
from tuneful.data.rows import Rows
from tuneful.data.splits import Split

UNUSABLE = 0.01  # share of rows from which a run is refused
SHOWN = 3  # rows shown in full
LISTED = 1000  # dropped rows listed one by one


@dataclass(frozen=True, slots=True)
class Shown:
    """One row as the model will see it: runs of text, and whether each is learned."""

    place: str
    pieces: list[tuple[str, bool]]
    tokens: int
    learned: int
    label: str | None = None


@dataclass(frozen=True, slots=True)
class XRay:
    """Everything `tuneful check` shows of the data. `problems` are reasons not to start."""

    layout: str
    rows: Mapping[str, int]
    tokens: int
    learned_tokens: int
    lengths: tuple[int, int, int]  # shortest, median, longest training row
    stop_token: str | None
    stop_learned: int | None  # training rows whose answer ends with a stop token; None for labels
    truncated: int
    dropped: list[Dropped]
    leaked: list[Dropped]
    duplicates: int
    diversity: float
    balance: Mapping[str, int]
    template: str
    shown: list[Shown]
    problems: list[str] = field(default_factory=list)
    notes: list[Said] = field(default_factory=list)
    sampled: int | None = None  # training rows these facts come from; None: all of them

    def of_sample(self, examples: int, rows: int, labels: LabelSet | None, counts: Mapping[str, int]) -> XRay:
        """The same for a data set of `rows` training rows of which `examples` were looked at: tokens are projected.
        `counts` are the rows of each label in all of it."""
        scale = rows / max(1, examples)
        balance = {name: counts.get(name, 0) for name in self.balance} if counts else self.balance
        whole = replace(
            self,
            rows={**self.rows, "train": rows},
            tokens=round(scale * self.tokens),
            learned_tokens=round(scale * self.learned_tokens),
            balance=balance,
            sampled=self.rows["train"],
            notes=[Said("streamed", {"n": examples, "rows": rows})],
        )
        whole.notes.extend(_notes(whole, labels))
        return whole


def xray(
    form: str,
    layout: Layout,
    split: Split,
    built: Mapping[str, Rows],
    dropped: Sequence[Dropped],
    processor: Processor,
    labels: LabelSet | None,
    *,
    drop: bool,
    by_folds: bool = False,
    unchosen: int = 0,
) -> XRay:
    """`built` are the rows of each split, `dropped` those that never became an example; `drop` says that the person
    knows of rows that cannot be used, `by_folds` that rows for training stand for those of a test; `unchosen` rows
    could be used, and are not learned."""
    train = built["train"]
    lost = [*dropped, *(item for rows in built.values() for item in rows.dropped)]
    stops = _stop_learned(train.rows, processor) if layout.writes and not layout.plays else None
    sizes = sorted(map(len, train.rows)) or [0]
    found = XRay(
        layout=form,
        rows={part: len(rows.rows) for part, rows in built.items()},
        tokens=sum(sizes),
        learned_tokens=sum(row.learned for row in train.rows),
        lengths=(sizes[0], sizes[len(sizes) // 2], sizes[-1]),
        stop_token=_stop_token(processor),
        stop_learned=stops,
        truncated=sum(rows.truncated for rows in built.values()),
        dropped=lost,
        leaked=split.leaked,
        duplicates=split.duplicates,
        diversity=diversity([said_in(row.example) for row in train.rows]),
        balance=_balance(train.rows, labels),
        template=processor.template() if layout.writes or (layout.rates and processor.converses) else "",
        shown=[_show(train, index, labels) for index in _shown(train.rows)],
    )
    found.problems.extend(_problems(found, layout, drop, unchosen))
    found.notes.extend(_notes(found, labels, by_folds=by_folds))
    return found


def diversity(texts: Sequence[str]) -> float:
    """Share of different word pairs (character pairs where words are not spaced) among all: 1 = nothing repeats.

    distinct-2 of Li et al. 2016, arXiv:1510.03055."""
    pairs: Counter[tuple[str, str]] = Counter()
    for text in texts:
        parts = text.split() if text.count(" ") > len(text) / 20 else list(text)
        pairs.update(itertools.pairwise(parts))
    return round(len(pairs) / max(1, pairs.total()), 4)


def _problems(found: XRay, layout: Layout, drop: bool, unchosen: int) -> list[str]:
    problems = []
    total = sum(found.rows.values()) + len(found.dropped) + unchosen
    if layout.writes and not layout.plays and found.rows["train"] and not found.learned_tokens:
        problems.append("no token would be learned: every row is context only")
    if found.stop_learned is not None and found.rows["train"] and found.stop_token is None:
        problems.append("the tokenizer has no stop token, so a tuned model could never end an answer")
    elif found.stop_learned is not None and found.stop_learned < 0.99 * found.rows["train"]:
        missing = found.rows["train"] - found.stop_learned
        problems.append(
            f"the stop token {found.stop_token} is not learned in {missing} of {found.rows['train']} rows: "
            "the tuned model would not know when to end. The chat template must close the assistant's turn with it"
        )
    if len(found.dropped) > UNUSABLE * total and not drop:
        first = found.dropped[0]
        problems.append(
            f"{len(found.dropped)} of {total} rows cannot be used; the first: {first.place}: {first.reason}. "
            "Mend them, or leave them out with --set data.drop=true"
        )
    if not found.rows["train"]:
        problems.append("no training row can be used")
    return problems


def _notes(found: XRay, labels: LabelSet | None, *, by_folds: bool = False) -> list[Said]:
    notes = []
    if found.duplicates:
        notes.append(Said("duplicates", {"n": found.duplicates}))
    if found.leaked:
        notes.append(Said("leaked", {"n": len(found.leaked)}))
    if found.truncated:
        notes.append(Said("truncated", {"n": found.truncated}))
    counts = [count for count in found.balance.values() if count]
    if labels is not None and labels.kind == "class" and counts and max(counts) > 10 * min(counts):
        rare = min(found.balance, key=lambda name: found.balance[name])
        notes.append(Said("uneven", {"rare": rare, "few": min(counts), "many": max(counts)}))
    if labels is not None and labels.kind == "class" and (near := alike(found.balance)):
        notes.append(Said("near_names", {"rare": near[0], "other": near[1]}))
    if not found.rows.get("test"):
        notes.append(Said("by_folds") if by_folds else Said("no_test"))
    return notes


def _stop_learned(rows: Sequence[Row], processor: Processor) -> int:
    """Rows whose last learned token is a stop token; a passage cut in parts needs it in its last part only."""
    ended = {}
    for row in rows:
        learned = np.flatnonzero(row.learn)
        ended[id(row.example)] = bool(len(learned)) and int(row.ids[learned[-1]]) in processor.stop_ids
    return sum(ended[id(row.example)] for row in rows)


def _stop_token(processor: Processor) -> str | None:
    return processor.token(min(processor.stop_ids)) if processor.stop_ids else None


def _balance(rows: Sequence[Row], labels: LabelSet | None) -> dict[str, int]:
    if labels is None or labels.kind == "number":
        return {}
    counts: Counter[str] = Counter(dict.fromkeys(labels.names, 0))
    for row in rows:
        if row.target is None:
            continue
        found = labels.truth(row.example)
        counts.update([name_of(found)] if isinstance(found, str) else found)
    return dict(counts)


def _show(rows: Rows, index: int, labels: LabelSet | None) -> Shown:
    row, encoded = rows.rows[index], rows.texts[index]
    label = str(row.example.label) if labels is not None and row.target is not None else None
    return Shown(str(row.example.place), pieces(encoded), len(encoded.ids), int((encoded.learn > 0).sum()), label)


def pieces(encoded: Encoded) -> list[tuple[str, bool]]:
    """The rendered text in runs: learned or not. Tokens that share a character count as one."""
    marks = np.zeros(len(encoded.text), dtype=bool)
    for (start, end), weight in zip(encoded.spans, encoded.learn, strict=True):
        marks[start:end] |= weight > 0
    runs: list[tuple[str, bool]] = []
    first, last = int(encoded.spans[:, 0].min()), int(encoded.spans[:, 1].max())
    edges = [first, *(int(edge) + 1 for edge in np.flatnonzero(np.diff(marks[first:last])) + first), last]
    for start, end in itertools.pairwise(edges):
        if end > start:
            runs.append((encoded.text[start:end], bool(marks[start])))
    return runs


def _shown(rows: Sequence[Row]) -> list[int]:
    """Of rows that are to be forgotten none is shown to anybody."""
    places = [place for place, row in enumerate(rows) if not row.example.task.startswith(FORGOTTEN)]
    return [places[index] for index in _spread(len(places), SHOWN)]


def _spread(count: int, wanted: int) -> list[int]:
    """Indices spread over the rows, the first among them."""
    return sorted({round(step * (count - 1) / max(1, wanted - 1)) for step in range(wanted)}) if count else []


def as_json(found: XRay) -> dict[str, Any]:
    """The report's `data` block and what `check --json` prints."""
    listed = [{"row": str(item.place), "reason": item.reason} for item in found.dropped[:LISTED]]
    return {
        "layout": found.layout,
        "rows": dict(found.rows),
        "sampled": found.sampled,
        "tokens": found.tokens,
        "learned_tokens": found.learned_tokens,
        "lengths": {"shortest": found.lengths[0], "median": found.lengths[1], "longest": found.lengths[2]},
        "stop_token": {"token": found.stop_token, "learned_in": found.stop_learned},
        "truncated": found.truncated,
        "dropped": listed,
        "dropped_count": len(found.dropped),
        "duplicates": found.duplicates,
        "leaked": len(found.leaked),
        "leaked_rows": [{"row": str(item.place), "reason": item.reason} for item in found.leaked[:LISTED]],
        "diversity": found.diversity,
        "balance": dict(found.balance),
        "template": found.template,
        "shown": [
            {"row": s.place, "pieces": s.pieces, "tokens": s.tokens, "learned": s.learned, "label": s.label}
            for s in found.shown
        ],
        "problems": found.problems,
        "notes": [{"key": note.key, **note.facts} for note in found.notes],
    }
