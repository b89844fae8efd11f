"""How well an encoder knows texts that nobody labelled: it names hidden tokens, or finds a text by a part of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

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
    losses = {}
    losses["tuned"], common = _masked_losses(policy, objective, collate, train, test)
    losses["base"] = _masked_losses(_Before(policy), objective, collate, train, test)[0] if base else common
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
    rebuilt, common = _rebuilt_losses(policy, objective, collate, train, test)
    named = score(METRICS["perplexity"], range(len(test)), {"tuned": rebuilt, "trivial": common})
    return Examined([_nearest(policy, objective.deleted, collate, test), named], "accuracy", [])


def _nearest(policy: Policy, deleted: float, collate: Collate, test: Sequence[Row]) -> Score:
    share = deleted or DELETED
    found = {
        "tuned": _found(policy, collate, test, share, original=False),
        "base": _found(policy, collate, test, share, original=True),
    }
    return score(METRICS["accuracy"], list(range(len(test))), found)


def _rebuilt_losses(
    policy: Policy, objective: Denoise, collate: Collate, train: Sequence[Row], rows: Sequence[Row]
) -> tuple[np.ndarray, np.ndarray]:
    """(R, 2) twice: summed loss of the named tokens and how many they are, by the decoder and by how common each is."""
    common = torch.from_numpy(unigram_losses(train))
    policy.module.eval()
    found = np.zeros((2, len(rows), 2))
    with torch.no_grad():
        for part, batch in batches(rows, collate):
            batch = place(batch, policy.device)
            losses = objective(policy, batch).losses.double().cpu()
            named = objective.named(policy, batch).cpu()
            policy.forget()
            owners, tokens = batch.targets["rows"].cpu()[named], batch.targets["tokens"].cpu()[named]
            counts = torch.bincount(owners, minlength=len(part)).double()
            guessed = counts.new_zeros(len(part)).index_add_(0, owners, common[tokens.clamp(max=len(common) - 1)])
            for number, sums in enumerate((losses * counts, guessed)):
                found[number, part] = torch.stack([sums, counts], 1).numpy()
    return found[0], found[1]


def _masked_losses(
    policy: Policy, objective: Masked, collate: Collate, train: Sequence[Row], rows: Sequence[Row]
) -> tuple[np.ndarray, np.ndarray]:
    """(R, 2) twice: summed loss of the hidden tokens and how many they are, by the policy and by how common each is."""
    common = torch.from_numpy(unigram_losses(train))
    policy.module.eval()
    found = np.zeros((2, len(rows), 2))
    with torch.no_grad():
        for part, batch in batches(rows, collate):
            batch = place(batch, policy.device)
            losses = objective(policy, batch).losses.double().cpu() * objective.rate
            policy.forget()
            hidden, owners = losses > 0, batch.targets["rows"].cpu()
            counts = np.bincount(owners[hidden].numpy(), minlength=len(part))
            tokens = batch.targets["tokens"].cpu()
            guessed = common[tokens.clamp(max=len(common) - 1)] * hidden
            for number, told in enumerate((losses, guessed)):
                sums = torch.zeros(len(part), dtype=torch.float64).index_add_(0, owners, told)
                found[number, part] = np.stack([sums.numpy(), counts], 1)
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
