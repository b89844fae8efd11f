"""What stands on a body: a head for text, for masked tokens, for labels, or none but the mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuneful.core.types import Layout
from tuneful.models.sentence import holds_head, read_sentence_classifier


@dataclass(frozen=True, slots=True)
class Labels:
    """What a classification head answers: its outputs' names, and the kind of answer transformers knows."""

    names: tuple[str, ...]
    problem: str  # single_label_classification | multi_label_classification | regression
    pooled: bool = False  # the head reads the mean of a text's hidden states, whatever head the architecture has
    rebuilds: bool = False  # a decoder stands beside the encoder while it learns


VECTORS = Labels((), "", pooled=True)  # no head: the mean is what is asked for
REWARD = Labels(("reward",), "regression")  # one number for a prompt with an answer
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


def labels_in(folder: Path) -> Labels | None:
    """What the classification head of a checkpoint answers, as its config says; None where it has no such head."""
    file = folder / "config.json"
    if folder.is_file() or not file.exists():
        return None
    config: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    pooled = holds_head(folder)
    names = config.get("architectures") or ()
    if not pooled and not any(str(name).endswith("ForSequenceClassification") for name in names):
        return None
    numbered = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}  # two unnamed classes are not written down
    names = [name for _, name in sorted(numbered.items(), key=lambda item: int(item[0]))]
    problem = config.get("problem_type") or ("regression" if len(names) == 1 else "single_label_classification")
    return Labels(tuple(names), problem, pooled=pooled)


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
