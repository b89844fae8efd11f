"""Rows as the model reads them before it is tuned: one vector each, kept for the next run over the same rows."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from tuneful.adapters.full import FinishedWeights
from tuneful.core.device import cache_folder, pick_device, precision, prepare_process
from tuneful.core.errors import RunFolderError
from tuneful.core.files import keep_newest, new_folder
from tuneful.core.policy import Policy
from tuneful.core.types import Layout, Row
from tuneful.data.layouts import Collator
from tuneful.evaluation.reading import outputs
from tuneful.models.heads import VECTORS
from tuneful.models.kept import identity
from tuneful.models.load import load
from tuneful.models.network import paths
from tuneful.recipe import Recipe

Say = Callable[[str], None]
FILE = "vectors.npz"
SETS = 16  # of vectors, kept at most; the one used longest ago goes


@dataclass(frozen=True, slots=True)
class Read:
    """What came of it."""

    vectors: np.ndarray  # (N, D) float32 of unit length
    seconds: float  # that reading took, also where it was done by an earlier run


def read_vectors(recipe: Recipe, folder: Path, layout: Layout, rows: Sequence[Row], say: Say) -> Read:
    """Read by the model of the recipe, which lies in `folder`, or found where an earlier run has left them."""
    dtype = precision(recipe.precision) if layout.writes else torch.float32
    quantise = recipe.quantise if layout.writes else None
    home = cache_folder() / "vectors" / _name(f"{identity(folder)} {layout.writes} {dtype} {quantise}", rows)
    if (found := _kept(home)) is not None:
        return found
    say(f"reading {len(rows):,} rows, to choose among them")
    prepare_process()
    began = time.perf_counter()
    loaded = load(
        str(recipe.model), labels=None if layout.writes else VECTORS, dtype=dtype, device=pick_device(),
        trust_remote_code=recipe.trust_remote_code, quantise=quantise, say=say,
    )  # fmt: skip
    policy = Policy(loaded.network, FinishedWeights(loaded.module, lambda: loaded.module))
    collate = Collator(Layout.TOKENS if layout.writes else Layout.LABELS, share=layout.writes and loaded.network.shares)
    read = Read(_read(policy, rows, collate), time.perf_counter() - began)
    _keep(home, read, say)
    return read


def weighted_mean(hidden_ND: Tensor, inputs: Mapping[str, Tensor], *, later_more: bool) -> Tensor:
    """(R, D) of unit length: the mean of each row's states, the n-th token counting n times where `later_more`
    (Muennighoff 2022, arXiv:2202.08904, equation 2): behind a causal mask only late tokens have read the row."""
    index_RL, real_RL = paths(inputs["segments"], inputs["rows"])
    weights_RL = real_RL.float()
    if later_more:
        weights_RL = weights_RL * torch.arange(1, real_RL.shape[1] + 1, device=real_RL.device)
    means = (hidden_ND[index_RL].float() * weights_RL[..., None]).sum(1) / weights_RL.sum(1, keepdim=True)
    return torch.nn.functional.normalize(means, dim=-1)


def _read(policy: Policy, rows: Sequence[Row], collate: Collator) -> np.ndarray:
    found: dict[int, np.ndarray] = {}
    with torch.no_grad():
        for part, batch, read in outputs(policy, rows, collate):
            vectors = weighted_mean(read.hidden, batch.inputs, later_more=policy.network.causal)
            found.update(zip(part, vectors.cpu().numpy(), strict=True))
    return np.stack([found[number] for number in range(len(rows))])


def _name(model: str, rows: Sequence[Row]) -> str:
    """Of the model as it is read, and of what it reads."""
    digest = hashlib.sha256(model.encode())
    for row in rows:
        digest.update(len(row).to_bytes(8, "little") + row.ids.tobytes())
    return digest.hexdigest()[:32]


def _kept(home: Path) -> Read | None:
    try:
        with np.load(home / FILE) as found:
            read = Read(found["vectors"], float(found["seconds"]))
        os.utime(home)
        return read
    except (OSError, ValueError, KeyError, BadZipFile):
        return None


def _keep(home: Path, read: Read, say: Say) -> None:
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(home) as scratch:
            np.savez(scratch / FILE, vectors=read.vectors, seconds=read.seconds)
        keep_newest(home.parent, SETS)
    except (OSError, RunFolderError) as error:  # without them the next run reads the rows again
        say(f"the vectors of the rows are not kept for the next run: {error}")
