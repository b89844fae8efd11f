"""A transformers model seen through the doors objectives need: hidden states, vocabulary, class head, embeddings.

Nothing here is written for one architecture; what an architecture can do is found out by asking it (`examine.py`).
Inputs of a batch: `input_ids` and `position_ids` (1, N), `segments` (S, 3) start, end, parent, and `rows`
(R,), the segment each row ends with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tuneful.core.errors import ModelError
from tuneful.core.vocabulary import Vocabulary
from tuneful.models import packed
from tuneful.models.cut import EVEN
from tuneful.models.packed import Reading


@dataclass(frozen=True, slots=True)
class Network:
    """How one architecture is read; holds no weights."""

    causal: bool
    packed: bool = False
    shares: bool = False  # packed rows may share prefixes: nothing but attention looks at other tokens
    joined: bool = False  # decoder layers run as one function each
    one_token_head: bool = False  # the class head reads one token of a row, not all of them
    first_position: int = 0
    longest: int | None = None  # rows beyond this are padded: the architecture attends in windows
    native: str = "sdpa"  # the attention implementation for padded rows

    def hidden(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """(N, D): one vector a packed token."""
        if self.packs(inputs):
            filled = _filled(inputs, causal=self.causal)
            cut = packed.plan(filled["segments"], causal=self.causal)
            states = self.packed_states(module, filled["input_ids"][0], filled["position_ids"][0], cut)
            return states[: inputs["input_ids"].shape[1]]
        return self._padded(module, inputs)

    def packed_states(self, module: nn.Module, ids: Tensor, positions: Tensor, reading: Reading) -> Tensor:
        """(N, D): one vector a packed token, ids and positions (N,); `reading` says what each token attends to."""
        states = _body(module)(
            input_ids=ids[None],
            position_ids=positions[None] + self.first_position,
            plan=reading,
            **({"use_cache": False} if self.causal else {}),
        )
        return states.last_hidden_state[0]

    def packs(self, inputs: Mapping[str, Tensor]) -> bool:
        """These rows are read packed."""
        if not self.packed or (not self.shares and bool((inputs["segments"][:, 2] >= 0).any())):
            return False
        return self.reaches(int(inputs["position_ids"].max()) + 1)

    def reaches(self, tokens: int) -> bool:
        """Packed attention reads rows of this length as the architecture does."""
        return self.longest is None or tokens <= self.longest

    def vocabulary(self, module: Any) -> Vocabulary:
        """The output head of a language model; of one that fills gaps, whatever its own head code does."""
        head = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
        if head is None:
            raise ModelError(f"{type(module).__name__} has no vocabulary head: it cannot write text")
        if not self.causal:
            return Vocabulary(head.weight, own=partial(_own_scores, module))
        config = text_config(module)
        scale = 1 / getattr(config, "logits_scaling", 1.0) * getattr(config, "logit_scale", 1.0)
        cap = getattr(config, "final_logit_softcapping", None)
        return Vocabulary(head.weight, getattr(head, "bias", None), scale, cap)

    def class_logits(self, module: nn.Module, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """(R, C), by the model's own head code, which is handed the hidden states it would have computed."""
        index, real = paths(inputs["segments"], inputs["rows"])
        if self.one_token_head:
            last = real.sum(1, keepdim=True) - 1
            index = index.gather(1, last) if self.causal else index[:, :1]
            real = torch.ones_like(index, dtype=torch.bool)
        # A head that learns is float32 behind a body in bf16: autocast lets the two meet.
        cast = torch.autocast(hidden.device.type, torch.bfloat16, enabled=hidden.dtype == torch.bfloat16)
        with _given_states(module, hidden[index]), self.natively(module), cast:
            return module(**rows_of(module, inputs, index, real)).logits

    def embeddings(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """(R, D): the mean of a row's hidden states."""
        index, real = paths(inputs["segments"], inputs["rows"])
        weights = real.to(torch.float32)[..., None]
        return (hidden[index].float() * weights).sum(1) / weights.sum(1)

    def rebuilt(self, module: Any, vectors: Tensor, embedded: Tensor, rows: Tensor, shown: Tensor) -> Tensor:
        """(M, D) states that name the tokens of rows, by the decoder that stands beside the encoder."""
        states: Tensor = module.text_decoder(vectors, embedded, rows, shown)
        return states

    @contextmanager
    def natively(self, module: nn.Module) -> Iterator[None]:
        """The architecture's own attention, for padded rows, key-value caches and generation."""
        if not self.packed:
            yield
            return
        module.set_attn_implementation(self.native)  # type: ignore[operator]
        try:
            yield
        finally:
            module.set_attn_implementation(packed.NAME)  # type: ignore[operator]

    def _padded(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        index, real = paths(inputs["segments"], inputs["rows"])
        with self.natively(module):
            states = _body(module)(**rows_of(module, inputs, index, real))
        flat = states.last_hidden_state[real]
        place = torch.zeros(inputs["input_ids"].shape[1], dtype=torch.long, device=flat.device)
        place[index[real]] = torch.arange(len(flat), device=flat.device)
        return flat[place]


def _filled(inputs: Mapping[str, Tensor], *, causal: bool) -> dict[str, Tensor]:
    """The same with tokens nobody reads behind it, so that few numbers of tokens occur. Behind a causal mask they
    lengthen the last segment, which spares a group of its own."""
    segments, tokens = inputs["segments"].clone(), inputs["input_ids"].shape[1]
    spare = _evened(tokens) - tokens
    if causal:
        segments[-1, 1] += spare
    elif spare:
        segments = torch.cat([segments, segments.new_tensor([[tokens, tokens + spare, -1]])])
    return {
        "input_ids": nn.functional.pad(inputs["input_ids"], (0, spare)),
        "position_ids": nn.functional.pad(inputs["position_ids"], (0, spare)),
        "segments": segments,
    }


def _evened(tokens: int) -> int:
    """The next multiple of 16; of 32 above 256 tokens, of 64 above 512, and so on, which adds an eighth at most."""
    step = EVEN << ((tokens - 1) // 256).bit_length()
    return -(-tokens // step) * step


def paths(segments: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which packed tokens make up each row: indices (R, L), padded by repeating the last, and (R, L) what is real."""
    table = segments.tolist()
    found: list[list[int]] = []
    for leaf in rows.tolist():
        path: list[int] = []
        while leaf >= 0:
            start, end, parent = table[leaf]
            path = [*range(start, end), *path]
            leaf = parent
        found.append(path)
    longest = max(map(len, found))
    index = torch.tensor([path + path[-1:] * (longest - len(path)) for path in found], device=segments.device)
    lengths = torch.tensor([len(path) for path in found], device=segments.device)
    return index, torch.arange(longest, device=segments.device) < lengths[:, None]


def rows_of(module: nn.Module, inputs: Mapping[str, Tensor], index: Tensor, real: Tensor) -> dict[str, Tensor]:
    """The rows as any transformers model takes them, padded on the right."""
    pad = getattr(text_config(module), "pad_token_id", None) or 0
    ids = inputs["input_ids"][0][index].masked_fill(~real, pad)
    return {"input_ids": ids, "attention_mask": real.long()}


@contextmanager
def _given_states(module: nn.Module, states: Tensor) -> Iterator[None]:
    """The module's body, for the length of the context, returns these states (R, L, D) instead of computing."""
    body = _body(module)

    def recall(*_: Any, **__: Any) -> Any:
        return _Recalled(last_hidden_state=states, pooler_output=_pool(body, states))

    body.forward = recall
    try:
        yield
    finally:
        del body.forward


def _own_scores(module: nn.Module, hidden_MD: Tensor) -> Tensor:
    """(M, V) by the model's own head code, as if these states were one row."""
    row = torch.ones(1, len(hidden_MD), dtype=torch.long, device=hidden_MD.device)
    with _given_states(module, hidden_MD[None]):
        scores: Tensor = module(input_ids=row, attention_mask=row).logits[0]
    return scores.float()


class _Recalled(BaseModelOutputWithPooling):  # type: ignore[misc]
    """The outputs of a body; what a head asks for beyond them (caches, attentions) is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def _pool(body: Any, states: Tensor) -> Tensor | None:
    pooler = getattr(body, "pooler", None)
    if isinstance(pooler, nn.Linear):  # ALBERT keeps the activation beside the layer
        return body.pooler_activation(pooler(states[:, 0]))
    return pooler(states) if isinstance(pooler, nn.Module) else None


def _body(module: nn.Module) -> Any:
    return getattr(module, "base_model", module)


def text_config(module: nn.Module) -> Any:
    config: Any = getattr(module, "config", SimpleNamespace())
    return config.get_text_config() if hasattr(config, "get_text_config") else config
