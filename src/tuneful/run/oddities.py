"""What is odd about rows whatever is learned of them: repeats, contradictions, leaks, rows far from all others, strange
lengths, answers that are none."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tuneful.core.types import Example, Said
from tuneful.data.answers import echoes, refuses
from tuneful.data.duplicates import alike, normal, said_in, whole
from tuneful.data.labels import as_list, name_of
from tuneful.data.patch import Line
from tuneful.models.landscape import BLOCK, nearness, robust
from tuneful.run.gather import gather
from tuneful.run.looked import Looked, answer_of

FAR = 5.0  # robust deviations from the median from which a row is odd
MEANS_THE_SAME = 0.97  # cosine from which a row means what a held-out row does
ENDED = re.compile(r"[.!?。！？…\"'”’」』)）\]】}`:：;|>*~\d]\s*$")
MOST_END = 0.9  # share of answers that end as texts end, from which another looks cut
LONG = 100  # characters from which an answer is a text that ends


def repeats(looked: Looked, belief_NC: Tensor | None = None) -> Iterator[Line]:
    """Rows that say what an earlier row says, and rows that say so with another label or answer. `belief_NC` shares out
    each row among the classes, and decides where as many rows have one label as the other."""
    members: dict[int, list[int]] = defaultdict(list)
    for place, cluster in enumerate(looked.near):
        members[cluster].append(place)
    for places in members.values():
        if len(places) > 1:
            yield from _of_cluster(looked, places, belief_NC)


def _of_cluster(looked: Looked, places: Sequence[int], belief_NC: Tensor | None) -> Iterator[Line]:
    rows = [looked.rows[place] for place in places]
    if rows[0].label is None or rows[0].messages:
        yield from _answers_differ(looked, places) if looked.writes else _repeated(looked, places)
        return
    kept = _most_given(looked, places, belief_NC)
    truth = next(row for row in rows if _name(row) == kept)
    for row in rows:
        if _name(row) != kept:
            share = sum(_name(one) == kept for one in rows) / len(rows)
            why = Said("coach_contradicts", {"other": truth.place, "to": kept, "label": _name(row)})
            yield looked.line(row, "contradiction", share, why, to=truth.label)
    yield from _repeated(looked, [place for place, row in zip(places, rows, strict=True) if _name(row) == kept])


def _most_given(looked: Looked, places: Sequence[int], belief_NC: Tensor | None) -> str:
    """The label that most of them have; between equals the one that is believed, else that of the first row."""
    counts = Counter(_name(looked.rows[place]) for place in places)
    most = max(counts.values())
    equal = [name for name, count in counts.items() if count == most]
    if len(equal) > 1 and belief_NC is not None and looked.labels is not None:
        total = belief_NC[list(places)].sum(0)
        return max(equal, key=lambda name: float(total[looked.labels.names.index(name)]) if looked.labels else 0.0)
    return equal[0]


def _answers_differ(looked: Looked, places: Sequence[int]) -> Iterator[Line]:
    """Requests that are the same, of a model that writes: repeats where the answers are the same too."""
    answers: dict[str, list[int]] = defaultdict(list)
    for place in places:
        answers[normal(answer_of(looked.rows[place]))].append(place)
    first = looked.rows[places[0]]
    for same in answers.values():
        yield from _repeated(looked, same)
        row = looked.rows[same[0]]
        if row is not first and alike(row) == alike(first):
            unlike = 1 - _overlap(answer_of(row), answer_of(first))
            yield looked.line(row, "contradiction", unlike, Said("coach_answers_differ", {"other": first.place}))


def _repeated(looked: Looked, places: Sequence[int]) -> Iterator[Line]:
    """All but the first; letter for letter is sure."""
    first = looked.rows[places[0]]
    for place in places[1:]:
        row = looked.rows[place]
        exact = normal(whole(row)) == normal(whole(first)) and answer_of(row) == answer_of(first)
        alike = 1.0 if exact else _overlap(whole(row), whole(first))
        nearly = Said("coach_nearly", {"other": first.place, "percent": round(100 * alike)})
        why = Said("coach_repeats", {"other": first.place}) if exact else nearly
        yield looked.line(row, "duplicate", alike, why)


def leaks(looked: Looked) -> Iterator[Line]:
    """Training rows that say what a held-out row says, which a run leaves out anyway; and, of those that it learns,
    rows that mean the same."""
    split = looked.prepared.split
    if split.leaked and looked.prepared.recipe.task.data.teacher is None:
        reasons = {str(row.place): row.reason for row in split.leaked}
        _, gathered = gather(looked.prepared.recipe, lambda _: None)
        for example in gathered.examples.get("train", ()):
            if (reason := reasons.get(str(example.place))) is not None:
                yield looked.line(example, "leak", 1.0, Said("coach_leaked", {"reason": reason}), accept=True)
    for place, (cosine, other) in _meant_the_same(looked).items():
        part, example = looked.held[other]
        why = Said("coach_leak", {"other": example.place, "part": part, "cosine": f"{cosine:.3f}"})
        yield looked.line(looked.rows[place], "leak", cosine, why)


def _meant_the_same(looked: Looked) -> dict[int, tuple[float, int]]:
    found: dict[int, tuple[float, int]] = {}
    for start in range(0, len(looked.vectors) if len(looked.held) else 0, BLOCK):
        best, where = (looked.vectors[start : start + BLOCK] @ looked.held_vectors.T).max(1)
        for place in (best >= MEANS_THE_SAME).nonzero()[:, 0].tolist():
            found[start + place] = (float(best[place]), int(where[place]))
    return found


def outliers(looked: Looked) -> Iterator[Line]:
    """Rows that lie farther from their nearest neighbours than nearly all others do, and rows of a strange length."""
    near = nearness(looked.vectors)
    apart, usual = -robust(near), float(near.median())
    for place in (apart > FAR).nonzero()[:, 0].tolist():
        why = Said("coach_far", {"near": f"{float(near[place]):.2f}", "usual": f"{usual:.2f}"})
        yield looked.line(looked.rows[place], "outlier", tail(float(apart[place])), why)
    yield from _lengths(looked)


def _lengths(looked: Looked) -> Iterator[Line]:
    """By the logarithm: texts twice as long are as odd as texts half as long."""
    sizes = torch.tensor([float(len(_length_of(row))) for row in looked.rows]).clamp(min=1)
    odd, usual = robust(sizes.log()), int(sizes.median())
    for place in (odd.abs() > FAR).nonzero()[:, 0].tolist():
        why = Said("coach_length", {"n": int(sizes[place]), "usual": usual})
        yield looked.line(looked.rows[place], "outlier", tail(float(odd[place].abs())), why)


def answers(looked: Looked) -> Iterator[Line]:
    """Of a model that writes: answers that say nothing, refuse, say the request again, or stop in the middle."""
    written = [(row, answer_of(row).strip()) for row in looked.rows]
    long = [text for _, text in written if len(text) >= LONG]
    end = bool(long) and sum(ENDED.search(text) is not None for text in long) >= MOST_END * len(long)
    for row, text in written:
        if (key := _fault(said_in(row), text, end)) is not None:
            yield looked.line(row, "answer", 1.0 if key == "empty" else MOST_END, _why(key))


def _fault(asked: str, text: str, texts_end: bool) -> str | None:
    if not text:
        return "empty"
    if refuses(text):
        return "refuses"
    if len(asked) >= 20 and echoes(asked, text):
        return "echoes"
    return "cut" if texts_end and len(text) >= LONG and not ENDED.search(text) else None


def _why(fault: str) -> Said:
    return {
        "empty": Said("coach_empty"), "refuses": Said("coach_refuses"), "echoes": Said("coach_echoes"),
        "cut": Said("coach_cut"),
    }[fault]  # fmt: skip


def _length_of(row: Example) -> str:
    return answer_of(row) if row.messages else said_in(row)


def _name(row: Example) -> str:
    return ", ".join(sorted(map(name_of, as_list(row))))


def tail(deviations: float) -> float:
    """At most 1 / z^2 of any values lie z deviations from their mean (Chebyshev)."""
    return 1 - 1 / max(1.0, deviations) ** 2


def _overlap(one: str, other: str) -> float:
    """Jaccard similarity of the runs of three characters."""
    first, second = ({normal(text)[i : i + 3] for i in range(max(1, len(normal(text)) - 2))} for text in (one, other))
    return len(first & second) / max(1, len(first | second))
