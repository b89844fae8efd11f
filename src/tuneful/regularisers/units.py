"""What regularisers of answers have in common: a mean over units, and the kinds of answers there are."""

from __future__ import annotations

import torch
from torch import Tensor

from tuneful.core.policy import Outputs
from tuneful.core.types import Answer, Batch

TOKENS = frozenset({Answer.TOKENS})
ONE_OF_MANY = frozenset({Answer.TOKENS, Answer.CLASS})
OF_ROWS = frozenset({Answer.CLASS, Answer.LABELS, Answer.NUMBER})
ALL_BUT_NUMBERS = frozenset({Answer.TOKENS, Answer.CLASS, Answer.LABELS})


def mean_over_units(values_U: Tensor, batch: Batch) -> Tensor:
    """The weighted mean, which the loss of the task is too."""
    return (values_U * batch.weights).sum() / batch.weights.sum().clamp(min=1e-12)


def logits_of(outputs: Outputs, batch: Batch) -> tuple[Tensor, bool] | None:
    """(R, C) logits, and whether each class is answered by itself; None where answers are tokens."""
    if "labels" not in batch.targets:
        return None
    return outputs.class_logits(), batch.targets["labels"].dim() == 2


def entropy(logits_RC: Tensor, *, each: bool) -> Tensor:
    """(R,) nats of the distribution over classes; `each`: the mean of the classes' own, yes against no."""
    if each:
        yes, no = torch.nn.functional.logsigmoid(logits_RC), torch.nn.functional.logsigmoid(-logits_RC)
        return -(yes.exp() * yes + no.exp() * no).mean(-1)
    logs = logits_RC.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)
