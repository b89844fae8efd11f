"""A run that goes on from another one: its weights, and its head, which has grown where there are new classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tuneful.adapters.turns import AttachedAdded, widened
from tuneful.adapters.weights import head_names
from tuneful.core.errors import RunFolderError
from tuneful.core.policy import Policy
from tuneful.data.labels import LabelSet
from tuneful.models.load import fingerprint
from tuneful.run.folder import RunFolder
from tuneful.run.prepare import Prepared
from tuneful.run.tuned import open_model

Say = Callable[[str], None]


def go_on(policy: Policy, prepared: Prepared, say: Say) -> None:
    """Gives what learns the values that it has in the run `recipe.start`. Raises RunFolderError where that is of
    another model, or another adapter."""
    start = str(prepared.recipe.start)
    folder = RunFolder(Path(start))
    lock = folder.read_json(folder.lock)
    if lock["model_sha256"] != fingerprint(prepared.folder):
        raise RunFolderError(
            f"{start} was tuned from another model than {prepared.recipe.model} (its weights differ), so its adapter "
            "does not fit; give the model it was tuned from"
        )
    tuned = open_model(start, say)
    values: Mapping[str, Tensor] = dict(tuned.policy.module.named_parameters())
    if isinstance(policy.attached, AttachedAdded):
        values = widened(values, policy.trainable())
    where = places(tuned.labels, prepared.labels)
    carry_over(values, policy.trainable(), where, heads=head_names(policy.module) if where else (), name=start)
    policy.forget()


def places(old: LabelSet | None, new: LabelSet | None) -> list[int]:
    """Where each class of the old head stands in the new one. Raises RunFolderError where one has gone."""
    if old is None or new is None:
        return []
    if gone := [name for name in old.names if name not in new.names]:
        raise RunFolderError(f"the run knows the class '{gone[0]}', of which no row is left: keep one in its memory")
    return [new.names.index(name) for name in old.names]


def carry_over(
    values: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    places: Sequence[int],
    *,
    heads: Sequence[str],
    name: str,
) -> None:
    """Writes values into the parameters of their names; what a head (`heads`: its parts) has a row of for each class,
    into the rows of these `places`. Raises RunFolderError where a name or shape does not fit."""
    with torch.no_grad():
        for key, parameter in parameters.items():
            value = values.get(key)
            by_class = value is not None and len(value) == len(places) and any(part in key.split(".") for part in heads)
            if (
                value is None
                or value.shape[1:] != parameter.shape[1:]
                or not (by_class or len(value) == len(parameter))
            ):
                raise RunFolderError(f"{name} was tuned by another adapter: '{key}' does not fit; leave adapter out")
            parameter[list(places) if by_class else slice(None)] = value.to(parameter)
            torch.autograd.graph.increment_version([parameter])
