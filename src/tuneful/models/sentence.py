"""Labels from what sentence encoders were trained to give: the mean of a text's hidden states, at unit length.

Reimers and Gurevych 2019 (arXiv:1908.10084), section 3. A folder of such a model is one of sentence-transformers: the
encoder, mean pooling, unit length, and the head as a linear layer, so that `SentenceTransformer(folder).encode(texts)`
gives the logits; `AutoModel` reads the encoder alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import SequenceClassifierOutput

from tuneful.models.rebuilding import TextDecoder

HEAD = "3_Dense"
PARTS = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize", HEAD: "Dense"}


class SentenceForSequenceClassification(nn.Module):
    """(R, C) logits by one linear layer over the unit-length mean (R, D) of a body's hidden states; with no class, the
    mean itself. A decoder that learns beside the body, if it `rebuilds`, is no part of what is saved."""

    base_model_prefix = "body"

    def __init__(self, body: Any, classes: int, *, rebuilds: bool = False) -> None:
        super().__init__()
        self.body, self.config = body, body.config
        width = body.config.get_text_config().hidden_size
        self.classifier = nn.Linear(width, classes) if classes else None
        if rebuilds:
            self.text_decoder = TextDecoder(width, body.config.get_text_config().num_attention_heads)

    @property
    def base_model(self) -> Any:
        return self.body

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SequenceClassifierOutput:
        states = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
        real = attention_mask[..., None].to(states.dtype)
        mean = (states * real).sum(1) / real.sum(1)
        vectors = F.normalize(mean, dim=-1)
        return SequenceClassifierOutput(logits=vectors if self.classifier is None else self.classifier(vectors))

    def get_input_embeddings(self) -> nn.Module:
        return self.body.get_input_embeddings()

    def set_attn_implementation(self, name: str) -> None:
        self.body.set_attn_implementation(name)

    def save_pretrained(self, folder: str | Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """`state_dict` stands for the module's own weights."""
        from safetensors.torch import save_file

        weights = dict(self.state_dict() if state_dict is None else state_dict)
        body = {name.removeprefix("body."): value for name, value in weights.items() if name.startswith("body.")}
        self.body.save_pretrained(folder, state_dict=body)
        parts = {place: kind for place, kind in PARTS.items() if place != HEAD or self.classifier is not None}
        for place, kind in parts.items():
            (Path(folder) / place).mkdir(exist_ok=True)
            if place:
                _write(Path(folder) / place / "config.json", self._settings(kind))
        if self.classifier is not None:
            head = {f"linear.{name}": weights[f"classifier.{name}"].contiguous() for name in ("weight", "bias")}
            save_file(head, Path(folder) / HEAD / "model.safetensors")
        modules = [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (path, kind) in enumerate(parts.items())
        ]
        _write(Path(folder) / "modules.json", modules)

    def _settings(self, kind: str) -> dict[str, Any]:
        width = self.body.config.get_text_config().hidden_size
        if kind == "Pooling":
            return {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True,
                    "pooling_mode_cls_token": False}  # fmt: skip
        if kind == "Dense" and self.classifier is not None:
            return {"in_features": width, "out_features": self.classifier.out_features, "bias": True,
                    "activation_function": "torch.nn.modules.linear.Identity"}  # fmt: skip
        return {}


def holds_head(folder: Path) -> bool:
    """Whether a folder is one of these, head included."""
    return (folder / HEAD / "model.safetensors").exists()


def read_sentence_classifier(
    folder: Path, given: Mapping[str, Any], answers: Mapping[str, Any], *, rebuilds: bool = False
) -> SentenceForSequenceClassification:
    """The encoder of a folder with its own head where that has as many classes, else with a new one. `given` is for
    from_pretrained, `answers` for the config (id2label, ...)."""
    from safetensors.torch import load_file
    from transformers import AutoModel

    body = AutoModel.from_pretrained(folder, **given)
    for name, value in answers.items():
        setattr(body.config, name, value)
    module = SentenceForSequenceClassification(body, len(answers["id2label"]), rebuilds=rebuilds)
    with torch.no_grad():
        if module.classifier is not None and holds_head(folder):
            head = load_file(folder / HEAD / "model.safetensors")
            if head["linear.weight"].shape == module.classifier.weight.shape:
                module.classifier.weight.copy_(head["linear.weight"])
                module.classifier.bias.copy_(head["linear.bias"])
    return module


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
