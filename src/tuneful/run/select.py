"""Some of the training rows are learned, and which: read by the model that will be tuned, chosen by a selector, and set
beside as many rows drawn by lot.

Near-duplicates go first, whatever the selector: what fills a small choice with one row again and again is no choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tuneful.core.device import is_first
from tuneful.core.errors import DataError, RecipeError
from tuneful.core.ranks import first_alone, gathered
from tuneful.core.types import Example, Layout, Row, Said
from tuneful.data.duplicates import clusters, said_in
from tuneful.data.labels import name_of
from tuneful.data.of_each import LEAST, of_each_class
from tuneful.data.rows import Rows
from tuneful.data.select import Likeness, Pool, Random, likeness, spread
from tuneful.data.splits import Split
from tuneful.recipe import Recipe
from tuneful.run.queries import Selecting, queries_of, told_apart
from tuneful.run.vectors import read_vectors

Say = Callable[[str], None]
DRAWS = 20  # of random rows that the kept ones are set beside
NAMED = 5  # sources or classes that a sentence tells


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows are learned, and what there is to say of it."""

    kept: np.ndarray  # places among the training rows, in their order
    beside: np.ndarray  # as many, drawn by lot
    facts: Mapping[str, Any]
    notes: Sequence[Said] = field(default_factory=list)
    drawn: Sequence[Row] = ()  # the rows of `beside`

    @property
    def left_out(self) -> int:
        rows: int = self.facts["rows"]
        return rows - len(self.kept)

    @property
    def passed_over(self) -> int:
        """Rows that are left out and repeat no other one."""
        repeats: int = self.facts["duplicates"]
        return self.left_out - repeats

    def of(self, split: Split, built: Mapping[str, Rows]) -> tuple[Split, Mapping[str, Rows]]:
        """The split and its rows, with those of training that are kept."""
        train = built["train"]
        rows = [train.rows[place] for place in self.kept]
        texts = {new: train.texts[place] for new, place in enumerate(self.kept.tolist())}
        learned = {row.example.place for row in rows}
        examples = [example for example in split.train if example.place in learned]
        return (
            replace(split, train=examples, duplicates=0),
            {**built, "train": Rows(rows, train.dropped, train.truncated, texts)},
        )


def select(given: Selecting, say: Say) -> Selection:
    """All ranks ask together; the first one chooses. Raises InputError."""
    if given.select.compare:
        told_apart(given.select, given.built["validation"].rows, given.recipe.seed)
    found: list[Selection] = []
    first_alone(lambda: found.append(_selected(given, say)))
    chosen: Selection = gathered(found[0] if is_first() else None)[0]  # type: ignore[assignment]
    return replace(chosen, drawn=[given.built["train"].rows[place] for place in chosen.beside.tolist()])


def check_select(recipe: Recipe, layout: Layout, *, streams: bool, choosing: bool) -> None:
    """Raises RecipeError where nothing can be chosen, or what was chosen would be misread."""
    data, problems = recipe.task.data, []
    if data.select is None:
        return
    if streams:
        problems.append("data.select: every row is looked at before any is learned, so they are held; "
                        "--set data.streaming=false")  # fmt: skip
    if layout in (Layout.PAIRS, Layout.CLASSES):
        problems.append("data.select: chooses among rows of text or of one label; queries with documents, and whole "
                        "classes that are told apart, need one another. Leave data.select out")  # fmt: skip
    if choosing:
        problems.append("choose: cross-validation would ask about the chosen rows alone, and say how good the model is "
                        "about rows like them; leave data.select or choose out")  # fmt: skip
    if data.select.compare and layout not in (Layout.TOKENS, Layout.LABELS):
        problems.append("data.select.compare: asks how good answers or labels are, and an encoder by itself gives "
                        "none; leave compare out")  # fmt: skip
    if data.select.compare and data.balance is not None:
        problems.append("data.select.compare: two short runs learn rows as they are; leave data.balance or compare out")
    if problems:
        raise RecipeError(problems)


def _selected(given: Selecting, say: Say) -> Selection:
    selector, rows, seed = given.select, given.built["train"].rows, given.recipe.seed
    different = _different(rows)
    count = selector.count(len(rows))
    if len(different) <= count:
        say(f"without near-duplicates there are {len(different):,} of {len(rows):,} rows, and all of them are kept")
        count = len(different)
    among = [rows[place] for place in different.tolist()]
    pool, seconds = _pool(given, among, say)
    chosen, beside = (one.choose(pool, count, seed) for one in (selector, Random()))
    # What is wanted may be of some classes only.
    if not selector.asks and all(map(_is_class, among)):
        classes = np.array([row.target for row in among])
        chosen = of_each_class(selector, pool, chosen, classes, seed)
        beside = of_each_class(Random(), pool, beside, classes, seed)
    facts = {
        **_counts(rows, different, chosen),
        **_likeness(pool, chosen, seed),
        "seconds": round(seconds, 2),
        "kind": selector.kind,  # type: ignore[attr-defined]
        "queries": 0 if pool.queries is None else len(pool.queries),
        "target": selector.target,
    }
    kept = np.sort(different[chosen])
    facts |= _few_of_class(rows, kept)
    facts["learned"] = list(dict.fromkeys(str(rows[place].example.place) for place in kept.tolist()))
    return Selection(kept, np.sort(different[beside]), facts, list(_notes(facts)))


def _is_class(row: Row) -> bool:
    return isinstance(row.target, int)


def _different(rows: Sequence[Row]) -> np.ndarray:
    """Places of rows that no earlier row nearly repeats; rows of one example are no repetition."""
    examples = {row.example.place: row.example for row in rows}
    found = clusters([_whole(example) for example in examples.values()])
    first: dict[int, Any] = {}
    for place, cluster in zip(examples, found, strict=True):
        first.setdefault(cluster, place)
    kept = set(first.values())
    return np.array([number for number, row in enumerate(rows) if row.example.place in kept])


def _whole(example: Example) -> str:
    """Request and answer: one request may have several answers that are worth learning."""
    answers = [message.content for message in (*example.messages, *example.chosen) if message.learned]
    return "\n".join([said_in(example), *answers])


def _pool(given: Selecting, rows: Sequence[Row], say: Say) -> tuple[Pool, float]:
    """What a selector sees of these rows, and the seconds that reading took."""
    selector = given.select
    lengths = np.array([row.learned if given.layout.writes else len(row) for row in rows])
    if not selector.reads and selector.target is None:
        return Pool(lengths), 0.0
    queries = queries_of(given, say)
    if selector.asks and not queries:
        raise DataError(
            f"data.select: '{selector.kind}' chooses by rows of the kind that is wanted, and there are neither "  # type: ignore[attr-defined]
            "data.select.target nor validation rows; name a file of such rows, or hold some out with data.validation"
        )
    found = read_vectors(given.recipe, given.folder, given.layout, rows, say)
    if not queries:
        return Pool(lengths, found.vectors), found.seconds
    asked = read_vectors(given.recipe, given.folder, given.layout, queries, say)
    sources = np.unique([row.example.place.source for row in queries], return_inverse=True)[1]
    return Pool(lengths, found.vectors, asked.vectors, sources), found.seconds + asked.seconds


def _counts(rows: Sequence[Row], different: np.ndarray, chosen: np.ndarray) -> dict[str, Any]:
    kept, whole = ([rows[place].example.place.source for place in places]
                   for places in (different[chosen], range(len(rows))))  # fmt: skip
    taken, all_of = Counter(kept), Counter(whole)
    return {
        "kept": len(chosen),
        "rows": len(rows),
        "duplicates": len(rows) - len(different),
        "sources": {source: {"kept": taken[source], "rows": count} for source, count in all_of.items()},
    }


def _likeness(pool: Pool, chosen: np.ndarray, seed: int) -> dict[str, Any]:
    """The kept rows beside as many drawn by lot: their length, and where they were read how near they come to the
    queries, and how near all rows, and the one that is farthest, are to one that is kept."""
    drawn = [Random().choose(pool, len(chosen), seed + number) for number in range(DRAWS)]
    found: dict[str, Any] = {
        "tokens": {"kept": round(float(pool.lengths[chosen].mean()), 1), "random": round(float(pool.lengths.mean()), 1)}
    }
    if pool.vectors is None:
        return found
    mine, theirs = (spread(pool.vectors, places) for places in (chosen, drawn[0]))
    for name, place in (("spread", 0), ("farthest", 1)):
        found[name] = {"kept": round(mine[place], 4), "random": round(theirs[place], 4)}
    if pool.queries is not None:
        kept = likeness(pool.vectors[chosen], pool.queries)
        random = [likeness(pool.vectors[places], pool.queries) for places in drawn]
        for name in ("nearness", "coverage"):
            found[name] = {"kept": round(getattr(kept, name), 4), "random": _mean(random, name)}
    return found


def _mean(found: Sequence[Likeness], name: str) -> float:
    return round(float(np.mean([getattr(one, name) for one in found])), 4)


def _few_of_class(rows: Sequence[Row], kept: np.ndarray) -> dict[str, Any]:
    """Classes that lost all rows, and those that are left with fewer than can be learned from, by name."""
    every, left = (Counter(name_of(rows[place].example.label) for place in places if _is_class(rows[place]))
                   for places in (range(len(rows)), kept.tolist()))  # fmt: skip
    lost = [name for name in every if not left[name]]
    thin = {name: left[name] for name in every if 0 < left[name] < min(LEAST, every[name])}
    return {"lost": len(lost), "lost_classes": lost, "thin_classes": thin}


def _notes(facts: Mapping[str, Any]) -> Iterator[Said]:
    tokens = facts["tokens"]
    yield Said("select_kept", {"n": facts["kept"], "rows": facts["rows"], "selector": facts["kind"],
                               "duplicates": facts["duplicates"], "tokens": tokens["kept"],
                               "random": tokens["random"]})  # fmt: skip
    if len(facts["sources"]) > 1:
        ordered = sorted(facts["sources"].items(), key=lambda item: -item[1]["kept"] / item[1]["rows"])
        shares = [f"{source} {100 * found['kept'] / found['rows']:.0f}%" for source, found in ordered]
        yield Said("select_sources", {"sources": _listed(shares)})
    if "nearness" in facts:
        near, cover = facts["nearness"], facts["coverage"]
        yield Said("select_near", {"n": facts["queries"], "near": near["kept"], "near_random": near["random"],
                                   "cover": cover["kept"], "cover_random": cover["random"]})  # fmt: skip
    if "spread" in facts:
        mean, least = facts["spread"], facts["farthest"]
        yield Said("select_spread", {"kept": mean["kept"], "least": least["kept"], "random": mean["random"],
                                     "random_least": least["random"]})  # fmt: skip
    if lost := facts["lost_classes"]:
        yield Said("select_lost", {"n": len(lost), "names": _listed(lost)})
    if thin := facts["thin_classes"]:
        named = [f"{name} {count}" for name, count in thin.items()]
        yield Said("select_thin", {"n": len(thin), "least": LEAST, "names": _listed(named)})


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + ("" if len(names) <= NAMED else ", …")
