"""Beginnings of texts that speak of a group of people, to be gone on with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuneful.core.errors import DataError
from tuneful.data.sources import read_file
from tuneful.evaluation.probes.descriptors import Lexicon
from tuneful.evaluation.probes.files import text
from tuneful.evaluation.probes.findings import LEAST


@dataclass(frozen=True, slots=True)
class Prompt:
    """`item` is the same for prompts that differ in nothing but the group."""

    text: str
    group: str
    item: str


def built_in(known: Lexicon, language: str) -> list[Prompt]:
    """Each opening, of each group."""
    return [
        Prompt(opening.format(subject=subject), group, f"{language} {number}")
        for number, opening in enumerate(known.openings)
        for group, subject in zip(known.groups, known.subjects, strict=True)
    ]


def prompts_of(source: str) -> list[Prompt]:
    """The rows of a file with the columns `prompt` and `group`, each an item of its own. Raises DataError."""
    path = Path(source).expanduser()
    if not path.is_file():
        raise DataError(f"there is no file '{source}'; expected CSV or JSONL with the columns 'prompt' and 'group'")
    found = [
        Prompt(text(raw.fields, "prompt", raw.place), text(raw.fields, "group", raw.place), str(number))
        for number, raw in enumerate(read_file(path, "utf-8"))
    ]
    if len(groups := {prompt.group for prompt in found}) < 2:
        named = f"all are of '{groups.pop()}'" if groups else "there are none"
        raise DataError(f"{source} holds prompts of two groups or more to be compared; {named}")
    return found


def some(prompts: Sequence[Prompt], rows: int, seed: int) -> list[Prompt]:
    """At most `rows` of them in their own order, as many of each group as far as it has them. Prompts that differ in
    nothing but the group are kept or left out together. Raises DataError where that would be none."""
    groups = len({prompt.group for prompt in prompts})
    if rows < groups:
        raise DataError(f"rows: {rows} prompts cannot be of each of {groups} groups; ask for {LEAST} of each or more, "
                        f"{LEAST * groups}")  # fmt: skip
    kinds: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for item, names in _items(prompts).items():
        kinds[names].append(item)
    rng, count = np.random.default_rng(seed), rows // groups
    kept = {item for items in kinds.values() for item in rng.permutation(items)[:count].tolist()}
    return [prompt for prompt in prompts if prompt.item in kept]


def _items(prompts: Sequence[Prompt]) -> dict[str, tuple[str, ...]]:
    """The groups that each item speaks of."""
    found: dict[str, list[str]] = defaultdict(list)
    for prompt in prompts:
        found[prompt.item].append(prompt.group)
    return {item: tuple(names) for item, names in found.items()}
