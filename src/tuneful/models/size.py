"""How large an architecture is, known from its config alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tuneful.models.examine import is_causal
from tuneful.models.explain import explained


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers of weights. `body` are those of matrices a token is multiplied with; an embedding is looked up."""

    total: int
    body: int
    vocabulary: int  # entries of the output matrix, tokens x width
    width: int
    layers: int
    outputs: int  # of all matrices of one layer together
    heads: int
    apart: int = 0  # weights of an output matrix that is not the embedding
    causal: bool = False  # a decoder: a token sees those before it
    shapes: tuple[tuple[int, int], ...] = ()  # out x in of the matrices, each kind once, the output matrix last

    def low_rank(self, rank: int) -> int:
        """About how many weights LoRA adds to all layers: rank x (in + out) of each."""
        return round(rank * self.body / self.width * 1.6)


def size_of(name: str, folder: Path, *, trust_remote_code: bool = False) -> Size:
    """Reads config.json and builds the model without memory. Raises ModelError when the config is damaged."""
    from transformers import AutoConfig, AutoModel

    given: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    with explained(name, folder):
        source = folder
        if not (folder / "config.json").exists():  # a GGUF file carries its config inside
            file = folder if folder.is_file() else next(folder.glob("*.gguf"))
            source, given["gguf_file"] = file.parent, file.name
        config = AutoConfig.from_pretrained(source, **given)
        with torch.device("meta"):
            body = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
    text = config.get_text_config()
    layers = getattr(text, "num_hidden_layers", 1)
    embedded = {id(p) for module in body.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    matrices = [p.numel() for p in body.parameters() if p.dim() >= 2 and id(p) not in embedded]
    return Size(
        total=sum(p.numel() for p in body.parameters()),
        body=sum(matrices),
        vocabulary=text.vocab_size * text.hidden_size,
        width=text.hidden_size,
        layers=layers,
        outputs=sum(len(p) for p in body.parameters() if p.dim() >= 2 and id(p) not in embedded) // max(1, layers),
        heads=getattr(text, "num_attention_heads", 1),
        apart=0 if getattr(text, "tie_word_embeddings", True) else text.vocab_size * text.hidden_size,
        causal=is_causal(body),
        shapes=tuple(
            dict.fromkeys(
                [
                    *sorted(
                        {
                            (len(p), p.numel() // len(p))
                            for p in body.parameters()
                            if p.dim() >= 2 and id(p) not in embedded
                        }
                    ),
                    (text.vocab_size, text.hidden_size),
                ]
            )
        ),
    )


def head_has_bias(folder: Path, *, trust_remote_code: bool = False) -> bool:
    """Whether the last layer of the architecture's classification head adds a constant."""
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.from_pretrained(
        folder, local_files_only=True, trust_remote_code=trust_remote_code, num_labels=1
    )
    with torch.device("meta"):
        whole = AutoModelForSequenceClassification.from_config(config, trust_remote_code=trust_remote_code)
    layers = [layer for layer in whole.modules() if isinstance(layer, nn.Linear) and layer.out_features == 1]
    return bool(layers) and layers[-1].bias is not None
