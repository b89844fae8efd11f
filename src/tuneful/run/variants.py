"""Variants of texts that cost a model a pass, or somebody money: made once before training, and judged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tuneful.core.device import cache_folder, is_first, secret
from tuneful.core.endpoint import Endpoint
from tuneful.core.errors import RecipeError
from tuneful.core.ranks import gathered, together
from tuneful.core.types import Layout, Row, Said
from tuneful.data.augment import Masked, Paraphrase
from tuneful.data.augment.paraphrase import Rewords, rewordings, said
from tuneful.data.augment.pieces import is_fixed, words
from tuneful.data.augment.reread import asked_texts, has_request
from tuneful.run.augment import MADE
from tuneful.run.embedded import WRITER, reader_for
from tuneful.run.insert import inserted
from tuneful.run.journal import Journal, ask
from tuneful.run.judge import Judged, Known, Pool, near, of_its_class
from tuneful.run.prepare import Prepared
from tuneful.run.synthesise import tokens_of
from tuneful.run.tuned import open_encoder, open_model
from tuneful.run.writers import Local, Remote, Writer

Say = Callable[[str], None]
FEW = 8  # rows of which variants are made to be looked at; a model on this computer takes seconds for each
TIMES = 3  # a variant may be so many times as long as its text


def with_variants(prepared: Prepared, say: Say = lambda _: None, *, sample: bool = False) -> Prepared:
    """The same with the variants that its recipe asks for. Raises InputError, and EndpointError; of a `sample`, which
    foretells no run, not where none of them is kept."""
    if not any(isinstance(one, MADE) for one in prepared.recipe.augment):
        return prepared
    # All ranks learn the same variants, and nobody is asked twice.
    judged = gathered(together(lambda: _judged(prepared, say, sample=sample) if is_first() else {}))[0]
    pools = {number: one.pool for number, one in judged.items()}
    digest = hashlib.sha256(repr((prepared.data_sha256, sorted(pools.items()))).encode()).hexdigest()
    notes = [_told(prepared.recipe.augment[number].kind, one) for number, one in judged.items()]
    xray = replace(prepared.xray, notes=[*prepared.xray.notes, *notes])
    return replace(prepared, variants=pools, data_sha256=digest, xray=xray)


def some(prepared: Prepared) -> Prepared:
    """The same with a few rows, and one rewording of each, where a model has to be asked about them."""
    named: Sequence[Any] = prepared.recipe.augment
    if not any(isinstance(one, MADE) for one in named):
        return prepared
    drawn = np.random.default_rng([prepared.recipe.seed, FEW]).permutation(len(prepared.repeated))[:FEW]
    augment = [one.model_copy(update={"variants": 1}) if isinstance(one, Paraphrase) else one for one in named]
    recipe = prepared.recipe.model_copy(update={"augment": augment})
    rows = [prepared.repeated[place] for place in sorted(drawn.tolist())]
    return replace(prepared, repeated=rows, resolved=replace(prepared.resolved, recipe=recipe))


def _judged(prepared: Prepared, say: Say, *, sample: bool) -> dict[int, Judged]:
    """By place in the recipe's list."""
    writes = prepared.layout is Layout.TOKENS
    rows = [row for row in prepared.repeated if asked_texts(row.example) and (has_request(row.example) or not writes)]
    texts = list(dict.fromkeys(text for row in rows for text in asked_texts(row.example)))
    found = {}
    for number, one in enumerate(prepared.recipe.augment):
        if isinstance(one, MADE):
            pool = _made(one, prepared, texts, say, where=f"augment.{number}")
            made = sum(map(len, pool.values()))
            judged = _kept(one, prepared, rows, pool, say)
            say(f"augment.{number}: {judged.kept} of {made} variants of {len(texts)} texts say the same"
                f" ({judged.far} are far from their text, {judged.other} of another class)")  # fmt: skip
            if not judged.kept and not sample:
                raise RecipeError([
                    f"augment.{number}: none of {made} variants of {len(texts)} texts is kept: {judged.far} are far "
                    f"from their text and {judged.other} of another class; name another model, lower "
                    "keep_label.similar, or leave it out"
                ])  # fmt: skip
            found[number] = judged
    return found


def _made(one: Masked | Paraphrase, prepared: Prepared, texts: Sequence[str], say: Say, *, where: str) -> Pool:
    """Different from their text and from one another, as short as they should be, with every number of the text."""
    if isinstance(one, Masked):
        return sound(inserted(one, prepared, texts, say))
    return sound(reworded(one, texts, one.variants, say, where=where))


def sound(made: Pool) -> Pool:
    """Each once, without those that are their text or cannot say the same."""
    return {
        text: tuple(dict.fromkeys(new for new in variants if new != text and is_sound(text, new)))
        for text, variants in made.items()
    }


def is_sound(text: str, new: str) -> bool:
    """Not empty, not much longer, and with the same numbers and the same words that turn a meaning round."""
    same = sorted(filter(is_fixed, map(str.lower, words(text)))) == sorted(filter(is_fixed, map(str.lower, words(new))))
    return bool(new.strip()) and len(new) <= TIMES * len(text) and same


def reworded(one: Rewords, texts: Sequence[str], variants: int, say: Say, *, where: str) -> Pool:
    """So many for each text, as the recipe says at `where`. Answers are kept by request, whichever run asked."""
    writer = _writer(one, where)
    told = hashlib.sha256(f"{one.endpoint} {writer.name}".encode()).hexdigest()[:16]
    file = cache_folder() / "variants" / f"{told}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    journal = Journal(file, writer.name, writer.temperature)
    journal.open()
    say(f"{where}: asking {writer.name} to say {len(texts):,} texts in other words, {variants:,} times each"
        f"{f', by way of {one.via} and back' if one.via else ''}; answers are kept in {file}")  # fmt: skip
    found = _asked(texts, variants, one.via, writer, journal, say)
    if one.via is None:
        return found
    there = list(dict.fromkeys(new for variants in found.values() for new in variants))
    back = _asked(there, 1, one.language or "English", writer, journal, say)
    return {text: tuple(new for one in variants for new in back[one]) for text, variants in found.items()}


def _asked(
    texts: Sequence[str], variants: int, language: str | None, writer: Writer, journal: Journal, say: Say
) -> dict[str, tuple[str, ...]]:
    requests = rewordings(texts, variants, language)
    ask(requests, writer, journal, tokens_of(TIMES, texts), say)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(texts, ())
    for request in requests:
        answer, cut = journal.answer(request) or ("", False)
        found[request.about] += tuple(filter(None, [said(answer, cut=cut)]))
    return found


def _writer(one: Rewords, where: str) -> Writer:
    if one.endpoint is None:
        name = one.model or WRITER
        tuned = open_model(name)
        if not tuned.writes:
            raise RecipeError([f"{where}.model: '{name}' gives no text; name a model that writes"])
        return Local(name, tuned, one.temperature)
    key = secret(one.key_from) if one.key_from else None
    if one.key_from and key is None:
        raise RecipeError([f"{where}.key_from: there is no environment variable {one.key_from}, or it is empty"])
    return Remote(Endpoint(one.endpoint, str(one.model), key), one.temperature)


def _kept(one: Any, prepared: Prepared, rows: Sequence[Row], pool: Pool, say: Say) -> Judged:
    if one.keep_label is None:
        return Judged(pool)
    reader = open_encoder(one.keep_label.encoder or reader_for(pool), None, say)
    judged = near(pool, one.keep_label.similar, reader.vectors)
    labels = prepared.labels
    single = all(row.example.second is None for row in rows)
    if prepared.layout is not Layout.LABELS or labels is None or labels.kind != "class" or not single:
        return judged
    mine = {row.example.text: row for row in rows if row.target is not None and row.example.text in pool}
    if len({row.target for row in mine.values()}) < 2:
        return judged
    known = Known.of([row.example for row in mine.values()], [int(row.target) for row in mine.values()],
                     len(labels.names), prepared.recipe.seed)  # fmt: skip
    return of_its_class(judged, known, reader.vectors)


def _told(kind: str, judged: Judged) -> Said:
    left_out = judged.far + judged.other
    return Said("variants", {"kind": kind, "n": judged.kept, "left_out": left_out})
