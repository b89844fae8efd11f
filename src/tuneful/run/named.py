"""A model that was never shown a label tells classes apart by their names.

An encoder takes the name a text lies nearest to; a generator the name after which the text is likeliest. Both are
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
from tuneful.models.anchors import SPREAD, correction, named
from tuneful.models.load import locate
from tuneful.run.embedded import READER, reader_for
from tuneful.run.few import describable, writes
from tuneful.run.heads import put
from tuneful.run.tuned import Tuned, open_encoder, open_model

Say = Callable[[str], None]
WRITE = "Write a short text about this: {name}"


def answers_by_name(name: str, examples: Sequence[Example], labels: LabelSet, say: Say) -> list[str]:
    """The class of each text by a model, embedded name, folder or hub id. Raises InputError."""
    describable(labels)
    if writes(locate(name, say)):
        scores = calibrated(likelihoods(open_model(name, say), examples, labels))
        return [labels.names[place] for place in scores.argmax(1)]
    texts = [asked(example) for example in examples]
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


def likelihoods(tuned: Tuned, examples: Sequence[Example], labels: LabelSet) -> np.ndarray:
    """(R, C) log-likelihood of each text as what is written about each name: the noisy channel of Min et al. 2022
    (arXiv:2108.04106, equation 2), which small models answer far better by than by the likelihood of the name as an
    answer (docs/log.md). As the text is the same for all names, their lengths play no part. Texts are cut to the
    model's limit."""
    words = [str(labels.words(number)) for number in range(len(labels.names))]
    rows, limit = [], tuned.processor.max_tokens
    for number, example in enumerate(examples):
        for word in words:
            turns = [Message("user", WRITE.format(name=word)), Message("assistant", asked(example))]
            encoded = tuned.processor.conversation(turns)[-1]
            rows.append(Row(Example(Place("input", number)), encoded.ids[:limit], encoded.learn[:limit]))
    collate = Collator(Layout.TOKENS, share=tuned.policy.network.shares)
    losses, _ = token_losses(tuned.policy, rows, collate).T.reshape(2, len(examples), len(words))
    return -losses


def calibrated(scores_RC: np.ndarray) -> np.ndarray:
    """(R, C) logits that deviate by 3 from name to name, less what all texts say of a name (batch calibration, Zhou et
    al. 2024, arXiv:2309.17249, equation 3; few texts change little)."""
    scores = torch.from_numpy(scores_RC)
    logits = (scores - scores.mean(1, keepdim=True)) * SPREAD / scores.std(1).mean().clamp(min=1e-6)
    return (logits + correction(logits)).numpy()


def asked(example: Example) -> str:
    """What a row asks, as one text."""
    if example.messages:
        return "\n".join(message.content for message in example.messages if message.role == "user")
    return "\n".join(part for part in (example.text, example.second) if part)
