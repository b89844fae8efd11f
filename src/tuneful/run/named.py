"""A model that was never shown a label tells classes apart by their names.

An encoder takes the name a text lies nearest to; a generator the name that is likeliest as an answer. Both are
calibrated on the very texts they are asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from tuneful.core.types import Example, Layout, Message, Place, Row
from tuneful.data.labels import LabelSet
from tuneful.data.layouts import Collator
from tuneful.evaluation.reading import token_losses
from tuneful.models.anchors import correction, named
from tuneful.models.load import locate
from tuneful.run.embedded import READER, reader_for
from tuneful.run.few import describable, writes
from tuneful.run.heads import put
from tuneful.run.tuned import Tuned, open_encoder, open_model

Say = Callable[[str], None]
ENOUGH = 30  # texts that say what a model is drawn to anyway; fewer, and texts that say nothing are asked instead
SAYS_NOTHING = ("N/A", "", "[MASK]")  # Zhao et al. 2021, arXiv:2102.09690, section 4
QUESTION = "{text}\n\nAnswer with one of these: {names}."


def answers_by_name(name: str, examples: Sequence[Example], labels: LabelSet, say: Say) -> list[str]:
    """The class of each text by a model, embedded name, folder or hub id. Raises InputError."""
    describable(labels)
    if writes(locate(name, say)):
        scores = likelihoods(open_model(name, say), examples, labels)
        return [labels.names[place] for place in scores.argmax(1)]
    texts = [example.text or "" for example in examples]
    better = reader_for(texts)
    if name == READER and better != READER:
        say(f"these texts are not English, which is all that {READER} reads; try {better}")
    model = named_model(name, labels, texts, say)
    return list(model.classify(texts))


def named_model(name: str, labels: LabelSet, texts: Sequence[str], say: Say) -> Tuned:
    """An encoder with a head placed by the names of classes and by these texts."""
    encoder = open_encoder(name, labels, say)
    words = [str(labels.words(number)) for number in range(len(labels.names))]
    put(encoder.policy.module, named(encoder.vectors(words), encoder.vectors(texts)))
    return encoder


def likelihoods(tuned: Tuned, examples: Sequence[Example], labels: LabelSet, *, calibrate: bool = True) -> np.ndarray:
    """(R, C) calibrated log-likelihood of each name as the answer to each text, a token of it where names are of
    different length. Batch calibration (Zhou et al. 2024, arXiv:2309.17249, equation 3) takes back what all texts say;
    with few texts, contextual calibration (Zhao et al. 2021, arXiv:2102.09690, equation 2) what texts say that hold
    nothing."""
    scores = _scores(tuned, [asked(example) for example in examples], labels)
    if not calibrate:
        return scores
    told = scores if len(scores) >= ENOUGH else _scores(tuned, SAYS_NOTHING, labels)
    return scores + correction(torch.from_numpy(told), doubt=0.0).numpy()


def asked(example: Example) -> str:
    """What a row asks, as one text."""
    if example.messages:
        return "\n".join(message.content for message in example.messages if message.role == "user")
    return "\n".join(part for part in (example.text, example.second) if part)


def _scores(tuned: Tuned, texts: Sequence[str], labels: LabelSet) -> np.ndarray:
    words = [str(labels.words(number)) for number in range(len(labels.names))]
    rows = []
    for number, text in enumerate(texts):
        question = Message("user", QUESTION.format(text=text, names=", ".join(words)))
        for word in words:
            (encoded,) = tuned.processor.conversation([question, Message("assistant", word)])[-1:]
            rows.append(Row(Example(Place("input", number)), encoded.ids, encoded.learn))
    collate = Collator(Layout.TOKENS, share=tuned.policy.network.shares)
    losses, counts = token_losses(tuned.policy, rows, collate).T.reshape(2, len(texts), len(words))
    alike = len(set(counts[0].tolist())) == 1
    return -losses if alike else -losses / counts
