"""Words that a masked language model puts into texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tuneful.adapters.full import FinishedWeights
from tuneful.core.device import pick_device, place
from tuneful.core.errors import RecipeError
from tuneful.core.policy import Policy
from tuneful.core.types import Example, Layout, Place, Row
from tuneful.data.augment import Masked
from tuneful.data.augment.masked import filled, with_holes
from tuneful.data.augment.pieces import TURNING, is_fixed
from tuneful.data.layouts import Collator
from tuneful.models.heads import holds_masked_head
from tuneful.models.load import load, locate
from tuneful.models.processors import TextProcessor
from tuneful.run.judge import Pool
from tuneful.run.prepare import Prepared

Say = Callable[[str], None]
LIKELY = 20  # words among which one is drawn
TOGETHER = 64  # texts read at once
MARK = 23  # in the key of a text's chance


def folder_of(one: Masked, prepared: Prepared, say: Say) -> Path:
    """Of the model that puts words in. Raises RecipeError where it names no hidden tokens."""
    name = named(one, prepared)
    folder = locate(name, say)
    if not holds_masked_head(folder):
        raise RecipeError([
            f"augment: masked.model '{name}' has not learned to name hidden words; name one that has, such as "
            "google-bert/bert-base-uncased, or leave masked out"
        ])  # fmt: skip
    return folder


def named(one: Masked, prepared: Prepared) -> str:
    return one.model or str(prepared.recipe.model)


def inserted(one: Masked, prepared: Prepared, texts: Sequence[str], say: Say) -> Pool:
    """Variants of each text by the model that is named. Raises RecipeError where it names no hidden tokens."""
    folder_of(one, prepared, say)
    loaded = load(named(one, prepared), fills=True, device=pick_device(), say=say)
    policy = Policy(loaded.network, FinishedWeights(loaded.module, lambda: loaded.module))
    filler = Filler(policy, loaded.processor, nameable(loaded.processor))
    hole = loaded.processor.token(loaded.processor.mask_id)
    found: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(texts), TOGETHER):
        part = texts[start : start + TOGETHER]
        for turn in range(one.variants):
            rngs = [np.random.default_rng([prepared.recipe.seed, start + n, turn, MARK]) for n in range(len(part))]
            holed = [with_holes(text, one.strength, rng, hole, keep_names=one.keep_names)
                     for text, rng in zip(part, rngs, strict=True)]  # fmt: skip
            for text, gaps, words in zip(part, holed, filler.words(holed, rngs), strict=True):
                new = filled(gaps, hole, words) if gaps.count(hole) == len(words) else text
                found[text] = (*found.get(text, ()), new)
    return found


@dataclass(frozen=True, slots=True)
class Filler:
    """A model that says which word fits a hole; `allowed` marks the tokens that are whole words."""

    policy: Policy
    processor: TextProcessor
    allowed: Tensor  # (V,)

    def words(self, texts: Sequence[str], rngs: Sequence[np.random.Generator]) -> Iterator[list[str]]:
        """Of each text a word for each of its holes, drawn among the likely ones by their probabilities."""
        encoded = [self.processor.text(text, limit=self.processor.max_tokens) for text in texts]
        rows = [Row(Example(Place("variants", n)), one.ids, one.learn) for n, one in enumerate(encoded)]
        batch = place(Collator(Layout.TEXTS)(rows), self.policy.device)
        where = (batch.inputs["input_ids"][0] == self.processor.mask_id).nonzero()[:, 0]
        outputs = self.policy.read(batch.inputs)
        with torch.no_grad():
            logits_MV = self.policy.network.vocabulary(self.policy.module).logits(outputs.hidden[where]).cpu()
        logits_MV[:, : len(self.allowed)][:, ~self.allowed] = -torch.inf
        logits_MV[:, len(self.allowed) :] = -torch.inf
        likely = logits_MV.topk(min(LIKELY, int(self.allowed.sum())))
        chances, ids = likely.values.softmax(1).double().numpy(), likely.indices.numpy()
        hole = 0
        for one, rng in zip(rows, rngs, strict=True):
            count = int((one.ids == self.processor.mask_id).sum())
            yield [self._drawn(ids[hole + n], chances[hole + n], rng) for n in range(count)]
            hole += count

    def _drawn(self, ids: np.ndarray, chances: np.ndarray, rng: np.random.Generator) -> str:
        token = int(rng.choice(ids, p=chances / chances.sum()))
        return self.processor.decode([token]).strip()


def nameable(processor: TextProcessor) -> Tensor:
    """(V,) which tokens are whole words of letters; none of them turns a meaning round."""
    tokenizer = processor.tokenizer
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    starts = any(token[:1] in "Ġ▁" and len(token) > 1 for token in tokens if token)
    special = set(tokenizer.all_special_ids)
    found = torch.zeros(len(tokens), dtype=torch.bool)
    for number, token in enumerate(tokens):
        word = processor.decode([number]).strip() if number not in special else ""
        whole = not starts or token[:1] in "Ġ▁"
        found[number] = whole and word.isalpha() and not is_fixed(word) and word.lower() not in TURNING
    return found
