"""What several tunings of one model become as one: sums of what each of them changed.

The changes of two LoRA runs are B1 A1 and B2 A2. Adding up the As and the Bs by themselves would bring the products
B1 A2 and B2 A1 in, which nobody learned, so the products are what is added here: PEFT's `cat` is exact, and its `_svd`
forms keep as much of the sum as a rank holds. (PEFT's own `linear`, `ties` and `dare_*` take A and B apart.)"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tuneful.adapters.lowrank import known_to_peft, quiet

WAYS = {
    "linear": "cat", "svd": "svd", "ties": "ties_svd", "dare_ties": "dare_ties_svd", "dare_linear": "dare_linear_svd",
}  # fmt: skip
"""By our name, PEFT's for products of low rank."""
THINNING = ("ties", "dare_ties", "dare_linear")  # those that drop a part of what was changed
AVERAGING = ("ties", "dare_ties")  # those that take a mean by themselves
DENSITY = 0.2
PART = "_run"  # an adapter's name while several lie on one model


@dataclass(frozen=True, slots=True)
class Way:
    """How changes become one.

    `linear`: sum of w_i D_i (Ilharco et al. 2023, arXiv:2212.04089, section 2). `svd`: the same, of the largest rank
    of the runs, by the leading singular vectors (Eckart and Young 1936). `ties`: of each D_i the `density` largest
    numbers stay; each number has the sign of their sum, and becomes the mean of the w_i D_i that have it (Yadav et al.
    2023, arXiv:2306.01708, algorithm 1). `dare_linear`, `dare_ties`: of each D_i a share of `density` stays by chance,
    divided by it (Yu et al. 2024, arXiv:2311.03099, equation 4); then as `linear`, or as TIES after its first step.
    Differs from the papers, as PEFT does: the largest are chosen layer by layer, and of LoRA runs the result is cut to
    the sum of their ranks."""

    how: str
    weights: tuple[float, ...]
    density: float | None  # None where nothing is dropped
    seed: int = 0

    @property
    def shares(self) -> tuple[float, ...]:
        """The weights, with a sum of one, for heads, which are not changes of anything."""
        return tuple(weight / sum(self.weights) for weight in self.weights)

    def rank(self, ranks: Sequence[int]) -> int:
        """Of what LoRA runs of these ranks become."""
        return max(ranks) if self.how == "svd" else sum(ranks)


def usual_weights(how: str, runs: int) -> tuple[float, ...]:
    """The mean of the changes: ties takes it by itself."""
    return (1.0 if how in AVERAGING else 1 / runs,) * runs


def merged_updates(module: nn.Module, folders: Sequence[str], way: Way) -> dict[str, Tensor]:
    """A and B of the adapter that the saved ones in `folders` become, by the names that an adapter of rank `way.rank`
    and a scale of one has in such a module. `module` is plain, and given up."""
    from peft import PeftConfig, get_peft_model
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    wrapped: Any = None
    configs = [PeftConfig.from_pretrained(folder) for folder in folders]
    names = [f"{PART}{number}" for number in range(len(folders))]
    for name, folder, config in zip(names, folders, configs, strict=True):
        config.modules_to_save, config.task_type = None, None  # heads are merged by class, not by PEFT
        with quiet():
            if wrapped is None:
                wrapped = get_peft_model(known_to_peft(module), config, adapter_name=name)
            else:
                wrapped.add_adapter(name, config)
        saved = load_peft_weights(folder, device="cpu")
        own = {key: value for key, value in saved.items() if "lora_" in key}
        set_peft_model_state_dict(wrapped, own, adapter_name=name)
    with _drawn(way):
        wrapped.add_weighted_adapter(
            names, list(way.weights), PART, combination_type=WAYS[way.how], density=way.density,
            svd_rank=way.rank([config.r for config in configs]), svd_full_matrices=False,
        )  # fmt: skip
    found = {key: value.detach() for key, value in module.named_parameters() if f".{PART}." in key}
    return {key.replace(f".{PART}.", ".default."): value for key, value in found.items()}


def merged_weights(start: Tensor, found: Sequence[Tensor], way: Way) -> Tensor:
    """What one weight becomes that was `start` before any tuning, and `found` after each."""
    from peft.utils import merge_utils

    changes = [after.float() - start.float() for after in found]
    weights = torch.tensor(way.weights)
    if way.density is None:
        return start + merge_utils.task_arithmetic(changes, weights)
    return start + getattr(merge_utils, way.how)(changes, weights, way.density)


def merged_model(
    starts: Mapping[str, Tensor], found: Sequence[Mapping[str, Tensor]], names: Sequence[str], way: Way
) -> dict[str, Tensor]:
    """The same of all weights of these names."""
    with _drawn(way):
        return {name: merged_weights(starts[name], [of_run[name] for of_run in found], way) for name in names}


def merged_head(
    found: Sequence[Tensor], places: Sequence[Sequence[int]], classes: int, shares: Sequence[float]
) -> Tensor:
    """(C, ...) a row for each class of any run: the mean of the rows of those that know it, by their shares. `places`
    has of each run where its classes stand among all. What is no matter of classes is the mean of all."""
    if any(len(value) != len(where) for value, where in zip(found, places, strict=True)):
        return sum((share * value.float() for share, value in zip(shares, found, strict=True)), torch.zeros(()))
    total, known = found[0].new_zeros(classes, *found[0].shape[1:]), found[0].new_zeros(classes)
    for value, where, share in zip(found, places, shares, strict=True):
        total[list(where)] += share * value
        known[list(where)] += share
    return total / known.reshape(-1, *[1] * (total.ndim - 1))


@contextmanager
def _drawn(way: Way) -> Iterator[None]:
    """By the seed; PEFT warns where a density of 1 drops nothing."""
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The density 1", UserWarning)
        torch.manual_seed(way.seed)
        yield
