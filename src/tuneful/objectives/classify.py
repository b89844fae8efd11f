"""Labels: one of several, any of several, or a number."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch.nn import functional as F

from tuneful.core.policy import Policy
from tuneful.core.spec import Spec
from tuneful.core.types import Batch, Layout, Terms

Target = Literal["auto", "class", "labels", "number"]


class Classify(Spec):
    """Cross-entropy over classes; its mean over independent labels; or half the squared error of a number.

    Numbers are learned in units of their standard deviation, so one learning rate fits all scales.
    """

    layout: ClassVar[Layout] = Layout.LABELS

    kind: Literal["classify"] = "classify"
    target: Target = "auto"
    """What a label is: one `class`, a list of `labels`, or a `number`; `auto` looks at the data."""
    pooling: Literal["own", "mean"] = "own"
    """What the head reads: what the architecture's `own` head does, or the `mean` of a text's hidden states at unit
    length, which is what sentence encoders were trained to give; the head then starts from the classes' means."""
    label_names: bool = False
    """The names of the classes are learned as texts of their own class; worth it where names are words."""
    offsets: tuple[float, ...] = ()
    """Added to the logits of the classes, in their order, while they are learned, and to none when the model is asked:
    the head start that `data.balance: logits` fills in."""

    def __call__(self, policy: Policy, batch: Batch) -> Terms:
        outputs = policy(batch)
        logits_RC, target = outputs.class_logits(), batch.targets["labels"]
        if target.dim() == 2:
            losses = F.binary_cross_entropy_with_logits(logits_RC, target, reduction="none").mean(-1)
        elif target.is_floating_point():
            losses = 0.5 * (logits_RC[:, 0] - target).square()
        else:
            ahead_RC = logits_RC + logits_RC.new_tensor(self.offsets) if self.offsets else logits_RC
            losses = F.cross_entropy(ahead_RC, target, reduction="none")
        with torch.no_grad():
            counted = batch.weights.sum().clamp(min=1e-12)
            metrics = (
                {}
                if target.is_floating_point()
                else {"accuracy": float(((logits_RC.argmax(-1) == target) * batch.weights).sum() / counted)}
            )
        return Terms(losses=losses, outputs=outputs, metrics=metrics)
