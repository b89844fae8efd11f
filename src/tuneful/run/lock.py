"""What a run was: its recipe with every default, its data, its model, and what it ran on."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tuneful.core.device import machine
from tuneful.core.errors import RunFolderError
from tuneful.models.load import fingerprint
from tuneful.recipe import Recipe
from tuneful.recipe.explain import explain
from tuneful.run.folder import RunFolder

if TYPE_CHECKING:
    from tuneful.run.build import Built

LIBRARIES = ("tuneful", "torch", "transformers", "peft", "safetensors", "numpy", "pydantic")


def write_lock(built: Built, folder: RunFolder, command: str) -> None:
    """`recipe.yaml` as given is the caller's; the lock is the recipe with every default, and what it ran on."""
    folder.write_json(folder.lock, lock_of(built, command))


def lock_of(built: Built, command: str) -> dict[str, Any]:
    return {
        "recipe": built.recipe.model_dump(mode="json"),
        "versions": versions(),
        "data_sha256": built.prepared.data_sha256,
        "model_sha256": fingerprint(built.prepared.folder),
        "labels": list(built.prepared.labels.names) if built.prepared.labels else None,
        "label_kind": built.prepared.labels.kind if built.prepared.labels else None,
        "command": command,
    }


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def provenance(built: Built) -> dict[str, Any]:
    here = machine()
    recipe = built.recipe.model_dump_json()
    return {
        "recipe_sha256": hashlib.sha256(recipe.encode()).hexdigest(),
        "data_sha256": built.prepared.data_sha256,
        "model": str(built.recipe.model),
        "model_sha256": fingerprint(built.prepared.folder),
        "versions": versions(),
        "machine": {
            "device": here.device,
            "name": here.name,
            "cores": here.cores,
            "memory_mb": here.memory_mb,
            "fp32_gflops": round(here.fp32_gflops),
            "bf16_gflops": round(here.bf16_gflops),
        },
        "seed": built.recipe.seed,
        "command": " ".join(sys.argv),
        "recipe": json.loads(recipe),
    }


def recipe_of(lock: Mapping[str, Any]) -> Recipe:
    """The resolved recipe of a lock file. Raises RunFolderError when this version does not know what stands there."""
    if "recipe" not in lock:
        raise RunFolderError("recipe.lock.json of this run holds no recipe; start anew from its recipe.yaml")
    try:
        return Recipe.model_validate(lock["recipe"])
    except ValidationError as error:
        wrote = lock.get("versions", {}).get("tuneful")
        raise RunFolderError(
            f"recipe.lock.json was written by {f'tuneful {wrote}' if wrote else 'an unknown version of tuneful'}, and "
            f"tuneful {version('tuneful')} does not understand it; go on with that version, or start anew:\n"
            + "\n".join(f"  {problem}" for problem in explain(error, Recipe))
        ) from None
