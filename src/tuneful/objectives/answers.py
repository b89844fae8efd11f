"""How likely whole answers are, now and before tuning: what all objectives over preferences read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tuneful.core.policy import Outputs, Policy
from tuneful.core.types import Batch

ROUNDING = 1e-5  # of a sum of log-probabilities that is computed in two ways


@dataclass(frozen=True, slots=True)
class Told:
    """Of T texts: log p of each answer given its prompt, and its length in tokens."""

    sums: Tensor  # (T,)
    lengths: Tensor

    @property
    def means(self) -> Tensor:
        """(T,) a token."""
        return self.sums / self.lengths


def told(outputs: Outputs, batch: Batch) -> Told:
    """Of the texts of a batch."""
    owners, count = batch.targets["texts"], len(batch.targets["names"])
    logprobs_M = outputs.token_logprobs(batch.targets["tokens"], batch.targets["where"])
    sums_T = logprobs_M.new_zeros(count).index_add(0, owners, logprobs_M)
    return Told(sums_T, torch.bincount(owners, minlength=count).to(sums_T.dtype))


def before(policy: Policy, batch: Batch) -> Tensor:
    """(T,) log p of each answer before tuning. It never changes, so it is computed once for each text of a run, when
    the text is first read: with the whole batch, unless all of that is known."""
    names = batch.targets["names"].tolist()
    if any(name not in policy.known for name in names):
        with torch.no_grad():
            sums_T = told(policy.reference(batch), batch).sums
        for name, found in zip(names, sums_T.tolist(), strict=True):
            policy.known.setdefault(name, found)
    return torch.tensor([policy.known[name] for name in names], device=batch.targets["names"].device)


def pairs(values_T: Tensor) -> tuple[Tensor, Tensor]:
    """(R,) of the chosen answers, (R,) of the rejected ones: a row has one text of each, the chosen one first."""
    return values_T[0::2], values_T[1::2]


def log_odds(logprobs: Tensor) -> Tensor:
    """log(p / (1 - p)); of what is certain a large number, not an infinite one."""
    return logprobs - torch.log1p(-logprobs.clamp(max=-1e-6).exp())


def compared(rewards_T: Tensor) -> dict[str, float]:
    """For the records: how often the chosen answer has the larger reward, half where that is no more than rounding, and
    by how much in the mean."""
    better_R, worse_R = pairs(rewards_T.detach())
    margins_R = better_R - worse_R
    right_R = 0.5 * (1 + margins_R.sign() * (margins_R.abs() > ROUNDING))
    return {"accuracy": float(right_R.mean()), "margin": float(margins_R.mean())}


def preferred(margins_R: Tensor) -> Tensor:
    """-log of the chance that the chosen answer wins (Bradley and Terry 1952), with these log odds."""
    return -F.logsigmoid(margins_R)
