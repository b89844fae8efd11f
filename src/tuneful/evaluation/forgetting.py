"""What tuning took away. The text the base model itself writes stands for what it knew: how much less likely does the
tuned model find it (perplexity), and how far did the next-token distributions move (KL)?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tuneful.core.policy import Policy
from tuneful.core.protocols import Processor
from tuneful.core.types import Example, Message, Place, Row
from tuneful.evaluation.reading import Collate, embeddings, outputs, token_losses
from tuneful.models.sampling import Generator

# Everyday requests on many subjects; none of them is a benchmark's.
PROMPTS = (
    "Tell me about the ocean.",
    "How do I boil an egg?",
    "Write a short story about a fox.",
    "What is the capital of France, and what is it known for?",
    "Explain why the sky is blue.",
    "List five things to take on a hike.",
    "Write a Python function that adds two numbers.",
    "Translate 'good morning' into Spanish.",
    "Give me advice for a job interview.",
    "What is 12 times 7? Show your work.",
    "Describe how plants make food.",
    "Write a polite email asking for a day off.",
    "Who was Marie Curie?",
    "What are the seasons of the year?",
    "用中文介紹一下你自己。",
    "請列出三種水果。",
)
NEW_TOKENS = 40
SENTENCES = PROMPTS  # for encoders: do the same sentences still lie where they lay?


def generator_forgetting(policy: Policy, processor: Processor, collate: Collate) -> dict[str, Any]:
    """`kl_from_base` in nats a token, and the perplexity of the base model's own text before and after."""
    rows = _own_text(policy, processor)
    if not rows:
        return {"kl_from_base": None, "reason": {"key": "writes_nothing"}}
    before = token_losses(policy, rows, collate, original=True).sum(0)
    after = token_losses(policy, rows, collate).sum(0)
    return {
        "kl_from_base": round(_kl(policy, rows, collate), 5),
        "own_text_perplexity": {"before": _perplexity(before), "after": _perplexity(after)},
        "tokens": int(before[1]),
    }


def encoder_forgetting(policy: Policy, rows: Sequence[Row], collate: Collate) -> dict[str, Any]:
    """An encoder writes nothing; how far its picture of everyday sentences moved is measured instead."""
    before = embeddings(policy, rows, collate, original=True)
    after = embeddings(policy, rows, collate)
    return {
        "kl_from_base": None,
        "reason": {"key": "encoder"},
        "embedding_similarity": round(float((before * after).sum(-1).mean()), 4),
    }


def sentence_rows(processor: Processor) -> list[Row]:
    encoded = [processor.text(sentence, limit=processor.max_tokens) for sentence in SENTENCES]
    return [Row(_example(number), item.ids, item.learn, target=0) for number, item in enumerate(encoded)]


def _own_text(policy: Policy, processor: Processor) -> list[Row]:
    prompts = [processor.prompt([Message("user", text)], ()).ids for text in PROMPTS]
    answers = Generator(processor).sample(policy, prompts, limit=NEW_TOKENS, temperature=1.0, seed=0, original=True)
    rows = []
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        if answer.ids:
            ids = np.concatenate([prompt, np.asarray(answer.ids, dtype=np.int32)])
            learn = np.zeros(len(ids), dtype=np.float32)
            learn[len(prompt) :] = 1.0
            rows.append(Row(_example(number), ids, learn, prompt=len(prompt)))
    return rows


def _kl(policy: Policy, rows: Sequence[Row], collate: Collate) -> float:
    """Mean over answer tokens of KL(base || tuned)."""
    total, count = 0.0, 0
    with torch.no_grad():
        for _, batch, now in outputs(policy, rows, collate):
            before = policy.read(batch.inputs, original=True)
            found = now.token_kl(before, batch.targets["where"])
            total += float(found.sum())
            count += len(found)
    return max(0.0, total / count)


def _perplexity(losses: np.ndarray) -> float:
    return round(math.exp(min(losses[0] / losses[1], 700.0)), 3)


def _example(number: int) -> Example:
    return Example(Place("everyday prompts", number + 1))
