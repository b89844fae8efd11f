"""A transformers model seen through the doors objectives need: hidden states, vocabulary, class head, embeddings.

Nothing here is written for one architecture. What an architecture can do is found out by asking it: the packed
answers are compared with the model's own padded forward pass on a few tokens, and what does not agree falls back to
padding. Inputs of a batch: `input_ids` and `position_ids` (1, N), `segments` (S, 3) start, end, parent, and `rows`
(R,), the segment each row ends with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tuneful.core.errors import ModelError
from tuneful.core.vocabulary import Vocabulary
from tuneful.models import block, packed
from tuneful.models.packed import Reading

WINDOWS = ("sliding_window", "local_attention", "attention_chunk_size", "window_size", "attention_window")
EVEN = (
    16  # tokens of a packed row come in multiples of this or more: the kernels made for each new shape stay in memory
)
UNKNOWN = (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError)  # what an architecture may raise
PROBE_LENGTHS = (7, 4)  # tokens of the two rows an architecture is asked about


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
        """The output head of a language model."""
        head = module.get_output_embeddings() if hasattr(module, "get_output_embeddings") else None
        if head is None:
            raise ModelError(f"{type(module).__name__} has no vocabulary head: it cannot write text")
        config = _text_config(module)
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
            return module(**_rows_of(module, inputs, index, real)).logits

    def embeddings(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """(R, D): the mean of a row's hidden states."""
        index, real = paths(inputs["segments"], inputs["rows"])
        weights = real.to(torch.float32)[..., None]
        return (hidden[index].float() * weights).sum(1) / weights.sum(1)

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
            states = _body(module)(**_rows_of(module, inputs, index, real))
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


def _rows_of(module: nn.Module, inputs: Mapping[str, Tensor], index: Tensor, real: Tensor) -> dict[str, Tensor]:
    """The rows as any transformers model takes them, padded on the right."""
    pad = getattr(_text_config(module), "pad_token_id", None) or 0
    ids = inputs["input_ids"][0][index].masked_fill(~real, pad)
    return {"input_ids": ids, "attention_mask": real.long()}


def examine(module: nn.Module) -> Network:
    """Finds out how this architecture can be read, and leaves the module ready for it."""
    config = _text_config(module)
    windows = [getattr(config, name, None) for name in WINDOWS]
    network = Network(
        causal=_is_causal(module),
        native=config._attn_implementation or "eager",
        longest=min((window for window in windows if isinstance(window, int)), default=None),
    )
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            network = _try_packing(module, network)
            _check_heads(module, network)
            return _try_one_token_head(module, network)
    finally:
        module.train(training)


def _try_packing(module: nn.Module, network: Network) -> Network:
    truth = network.hidden(module, probe_rows(module))
    pad = getattr(_text_config(module), "pad_token_id", None)
    for first in (0, (pad or 0) + 1):
        candidate = replace(network, packed=True, first_position=first)
        module.set_attn_implementation(packed.NAME)  # type: ignore[operator]
        # Whatever an unknown architecture raises here only means that it wants padded rows.
        with suppress(packed.NotPackable, *UNKNOWN):
            if agree(truth, candidate.hidden(module, probe_rows(module))):
                return _try_sharing(module, _try_joining(module, candidate, truth))
        module.set_attn_implementation(network.native)  # type: ignore[operator]
    return network


def adopt(module: nn.Module, network: Network) -> None:
    """Leaves a module of a known architecture ready to be read."""
    if network.packed:
        module.set_attn_implementation(packed.NAME)  # type: ignore[operator]
    if network.joined:
        block.join(module)


def _try_joining(module: nn.Module, network: Network, truth: Tensor) -> Network:
    """Decoder layers as one function each, if the network then answers as before."""
    if not network.causal or not block.join(module):
        return network
    with suppress(*UNKNOWN):
        if agree(truth, network.hidden(module, probe_rows(module))):
            return replace(network, joined=True)
    block.part(module)
    return network


def _try_sharing(module: nn.Module, network: Network) -> Network:
    if not network.causal:
        return network
    tree = probe_rows(module, shared=True)
    sharing = replace(network, shares=True)
    return sharing if agree(network.hidden(module, tree), sharing.hidden(module, tree)) else network


def _check_heads(module: nn.Module, network: Network) -> None:
    if is_classifier(module) or not network.causal or module.get_output_embeddings() is None:  # type: ignore[operator]
        return
    probe = probe_rows(module)
    index, real = paths(probe["segments"], probe["rows"])
    with network.natively(module):
        truth = module(**_rows_of(module, probe, index, real)).logits[real]
    found = network.vocabulary(module).logits(network.hidden(module, probe))
    if not agree(truth, found):
        raise ModelError(
            f"{type(module).__name__} computes its logits in a way Tuneful does not know; please report this model"
        )


def _try_one_token_head(module: nn.Module, network: Network) -> Network:
    if not is_classifier(module):
        return network
    probe = probe_rows(module)
    index, real = paths(probe["segments"], probe["rows"])
    with network.natively(module):
        truth = module(**_rows_of(module, probe, index, real)).logits
    hidden = network.hidden(module, probe)
    for candidate in (replace(network, one_token_head=True), network):
        if agree(truth, candidate.class_logits(module, hidden, probe)):
            return candidate
    raise ModelError(f"the classification head of {type(module).__name__} cannot be read; please report this model")


def is_classifier(module: nn.Module) -> bool:
    return type(module).__name__.endswith("ForSequenceClassification")


def probe_rows(module: nn.Module, *, shared: bool = False) -> dict[str, Tensor]:
    """Two short rows of ordinary tokens; `shared`: a prefix and two endings."""
    config = _text_config(module)
    special = {getattr(config, name, None) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    count = sum(PROBE_LENGTHS)
    ordinary = [token for token in range(config.vocab_size) if token not in special][-count * 3 :: 3]
    first, second = PROBE_LENGTHS
    split = first // 2
    segments = [[0, first, -1], [first, count, -1]]
    positions = [*range(first), *range(second)]
    if shared:
        segments = [[0, split, -1], [split, first, 0], [first, count, 0]]
        positions = [*range(first), *range(split, split + second)]
    device = next(module.parameters()).device
    return {
        "input_ids": torch.tensor([ordinary[:count]], device=device),
        "position_ids": torch.tensor([positions], device=device),
        "segments": torch.tensor(segments, device=device),
        "rows": torch.tensor([1, 2] if shared else [0, 1], device=device),
    }


def agree(truth: Tensor, found: Tensor) -> bool:
    if truth.shape != found.shape:
        return False
    tolerance = 1e-4 if truth.dtype == torch.float32 else 5e-2
    scale = truth.float().abs().max().clamp(min=1e-6)
    return bool((truth.float() - found.float()).abs().max() <= tolerance * scale)


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


def _text_config(module: nn.Module) -> Any:
    config: Any = getattr(module, "config", SimpleNamespace())
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _is_causal(module: nn.Module) -> bool:
    """A decoder's attention layers say so themselves."""
    marks = [layer.is_causal for layer in module.modules() if isinstance(getattr(layer, "is_causal", None), bool)]
    if marks:
        return all(marks)
    return bool(getattr(_text_config(module), "is_decoder", False)) or type(module).__name__.endswith("ForCausalLM")
