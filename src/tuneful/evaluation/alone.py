"""How well an encoder knows texts that nobody labelled: it names hidden tokens, or finds a text by a part of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tuneful.core.device import place
from tuneful.core.policy import Outputs, Policy
from tuneful.core.types import Batch, Row
from tuneful.evaluation.compare import Examined, Score, score
from tuneful.evaluation.generators import unigram_losses
from tuneful.evaluation.metrics import METRICS
from tuneful.evaluation.reading import Collate, batches
from tuneful.objectives import Contrast, Denoise, Masked
from tuneful.objectives.noise import chances, shortened

DELETED = 0.3  # of a text's tokens, where it is to be found by the rest


class _Before(Policy):
    """The policy as it was before tuning, for objectives that know of no other."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy.network, policy.attached, autocast=policy.autocast, gathered=policy.gathered)

    def __call__(self, batch: Batch) -> Outputs:
        return self.read(batch.inputs, original=True)


def examine_masked(
    policy: Policy, objective: Masked, collate: Collate, train: Sequence[Row], test: Sequence[Row], *, base: bool
) -> Examined:
    """Perplexity of hidden tokens, the same ones for every system. `base` False: the model named none before tuning,
    so how common each token is among the training rows stands for it."""
    losses, tell = {}, partial(_hidden, objective)
    losses["tuned"], common = _told(tell, policy, collate, train, test)
    losses["base"] = _told(tell, _Before(policy), collate, train, test)[0] if base else common
    if base:
        losses["trivial"] = common
    return Examined([score(METRICS["perplexity"], range(len(test)), losses)], "perplexity", [])


def examine_contrast(policy: Policy, objective: Contrast, collate: Collate, test: Sequence[Row]) -> Examined:
    """How often a text that lacks some of its tokens lies nearest to the whole of it, among all test rows."""
    return Examined([_nearest(policy, objective.deleted, collate, test)], "accuracy", [])


def examine_denoise(
    policy: Policy, objective: Denoise, collate: Collate, train: Sequence[Row], test: Sequence[Row]
) -> Examined:
    """The same, and the perplexity of the tokens that the decoder names; before tuning there is no decoder, so only how
    common each token is among the training rows stands beside it."""
    rebuilt, common = _told(partial(_rebuilt, objective), policy, collate, train, test)
    named = score(METRICS["perplexity"], range(len(test)), {"tuned": rebuilt, "trivial": common})
    return Examined([_nearest(policy, objective.deleted, collate, test), named], "accuracy", [])


def _nearest(policy: Policy, deleted: float, collate: Collate, test: Sequence[Row]) -> Score:
    share = deleted or DELETED
    found = {
        "tuned": _found(policy, collate, test, share, original=False),
        "base": _found(policy, collate, test, share, original=True),
    }
    return score(METRICS["accuracy"], list(range(len(test))), found)


def _hidden(objective: Masked, policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    losses = objective(policy, batch).losses.double() * objective.rate
    return losses.new_zeros(len(batch.inputs["rows"])).index_add(0, batch.targets["rows"], losses), losses > 0


def _rebuilt(objective: Denoise, policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    named = objective.named(policy, batch)
    losses = objective(policy, batch).losses.double()
    return losses * torch.bincount(batch.targets["rows"][named], minlength=len(losses)), named


def _told(
    tell: Callable[[Policy, Batch], tuple[Tensor, Tensor]],
    policy: Policy,
    collate: Collate,
    train: Sequence[Row],
    rows: Sequence[Row],
) -> tuple[np.ndarray, np.ndarray]:
    """(R, 2) twice: summed loss of the tokens that are asked for and how many they are, by the policy and by how common
    each is. `tell` gives of a batch the summed loss of each row (R,), and which tokens (M,) are asked for."""
    common = torch.from_numpy(unigram_losses(train))
    policy.module.eval()
    found = np.zeros((2, len(rows), 2))
    with torch.no_grad():
        for part, batch in batches(rows, collate):
            batch = place(batch, policy.device)
            sums, asked = (told.cpu() for told in tell(policy, batch))
            policy.forget()
            owners, tokens = (batch.targets[name].cpu()[asked] for name in ("rows", "tokens"))
            counts = torch.bincount(owners, minlength=len(part)).double()
            guessed = counts.new_zeros(len(part)).index_add_(0, owners, common[tokens.clamp(max=len(common) - 1)])
            for number, losses in enumerate((sums, guessed)):
                found[number, part] = torch.stack([losses, counts], 1).numpy()
    return found[0], found[1]


def _found(policy: Policy, collate: Collate, rows: Sequence[Row], share: float, *, original: bool) -> list[int]:
    """The row each shortened row is taken for."""
    policy.module.eval()
    whole, parts = [torch.empty(0)] * len(rows), [torch.empty(0)] * len(rows)
    with torch.no_grad():
        for part, batch in batches(rows, collate):
            batch = place(batch, policy.device)
            ids, where = batch.inputs["input_ids"], batch.targets["where"]
            gone = torch.zeros(ids.shape[1], dtype=torch.bool, device=ids.device)
            gone[where] = chances(policy, batch) < share
            for into, inputs in ((whole, batch.inputs), (parts, shortened(batch.inputs, gone))):
                vectors = policy.read(inputs, original=original).embeddings().cpu()
                for number, vector in zip(part, vectors, strict=True):
                    into[number] = vector
    return [int(nearest) for nearest in (torch.stack(parts) @ torch.stack(whole).T).argmax(1)]
