"""What stands on a body: a head for text, for masked tokens, for labels, or none but the mean."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuneful.core.types import Layout
from tuneful.models.sentence import read_sentence_classifier


@dataclass(frozen=True, slots=True)
class Labels:
    """What a classification head answers: its outputs' names, and the kind of answer transformers knows."""

    names: tuple[str, ...]
    problem: str  # single_label_classification | multi_label_classification | regression
    pooled: bool = False  # the head reads the mean of a text's hidden states, whatever head the architecture has
    rebuilds: bool = False  # a decoder stands beside the encoder while it learns


VECTORS = Labels((), "", pooled=True)  # no head: the mean is what is asked for
REBUILDS = Labels((), "", pooled=True, rebuilds=True)


def read_module(
    folder: Path, labels: Labels | None, dtype: torch.dtype, trust_remote_code: bool, *, fills: bool = False
) -> Any:
    """The weights of a folder under the head that is asked for; new where the checkpoint has none that fits."""
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

    given: dict[str, Any] = {
        "local_files_only": True,
        "trust_remote_code": trust_remote_code,
        "dtype": dtype,
    }
    if (gguf := gguf_in(folder)) is not None:
        given["gguf_file"] = gguf.name
        folder = folder.parent if folder.is_file() else folder
    else:
        given["use_safetensors"] = True
    if fills:
        return AutoModelForMaskedLM.from_pretrained(folder, **given)
    if labels is None:
        return AutoModelForCausalLM.from_pretrained(folder, **given)
    answers = {
        "id2label": dict(enumerate(labels.names)),
        "label2id": {label: index for index, label in enumerate(labels.names)},
        "problem_type": labels.problem,
    }
    if labels.pooled:
        return read_sentence_classifier(folder, given, answers, rebuilds=labels.rebuilds)
    return AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=len(labels.names), ignore_mismatched_sizes=True, **answers, **given
    )


def headless(layout: Layout) -> Labels:
    """What stands over the mean where no head does."""
    return REBUILDS if layout is Layout.REBUILT else VECTORS


def holds_masked_head(folder: Path) -> bool:
    """Whether a checkpoint says that it names masked tokens."""
    file = folder / "config.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    names = [str(name) for name in found.get("architectures") or ()]
    return any(name.endswith("ForMaskedLM") or name == "BertForPreTraining" for name in names)


def gguf_in(folder: Path) -> Path | None:
    """The .gguf file a model is read from, where it is."""
    if folder.is_file():
        return folder if folder.suffix == ".gguf" else None
    if list(folder.glob("*.safetensors")):
        return None
    return next(iter(sorted(folder.glob("*.gguf"))), None)
