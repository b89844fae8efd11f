"""How an architecture can be read, found out by asking it.

The packed answers are compared with the model's own padded forward pass on a few tokens, and what does not agree falls
back to padding, to rows that share nothing, to layers as they were written.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor, nn

from tuneful.core.dropout import drop_quickly
from tuneful.core.errors import ModelError
from tuneful.models import block, packed
from tuneful.models.network import Network, paths, rows_of, text_config

WINDOWS = ("sliding_window", "local_attention", "attention_chunk_size", "window_size", "attention_window")
UNKNOWN = (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError)  # what an architecture may raise
PROBE_LENGTHS = (7, 4)  # tokens of the two rows an architecture is asked about


def examine(module: nn.Module) -> Network:
    """Finds out how this architecture can be read, and leaves the module ready for it."""
    config = text_config(module)
    windows = [getattr(config, name, None) for name in WINDOWS]
    network = Network(
        causal=is_causal(module),
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
        drop_quickly(module)


def _try_packing(module: nn.Module, network: Network) -> Network:
    truth = network.hidden(module, probe_rows(module))
    pad = getattr(text_config(module), "pad_token_id", None)
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
    drop_quickly(module)


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
        truth = module(**rows_of(module, probe, index, real)).logits[real]
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
        truth = module(**rows_of(module, probe, index, real)).logits
    hidden = network.hidden(module, probe)
    one = replace(network, one_token_head=True)
    for candidate in (one, network) if _hears_one_token(module, network, hidden, probe) else (network,):
        if agree(truth, candidate.class_logits(module, hidden, probe)):
            return candidate
    raise ModelError(f"the classification head of {type(module).__name__} cannot be read; please report this model")


def _hears_one_token(module: nn.Module, network: Network, hidden: Tensor, probe: dict[str, Tensor]) -> bool:
    """The class head answers the same, bit for bit, whatever states the other tokens of a row have. By the answers to
    one text it cannot be told: where all texts lie close together, one token is about the mean."""
    index, real = paths(probe["segments"], probe["rows"])
    heard = index[torch.arange(len(index)), real.sum(1) - 1] if network.causal else index[:, 0]
    others = torch.ones(len(hidden), dtype=torch.bool, device=hidden.device)
    others[heard] = False
    changed = hidden.clone()
    changed[others] = -3 * hidden[others].flip(-1)
    answers = [network.class_logits(module, states, probe) for states in (hidden, changed)]
    return torch.equal(*answers)


def is_classifier(module: nn.Module) -> bool:
    return type(module).__name__.endswith("ForSequenceClassification")


def probe_rows(module: nn.Module, *, shared: bool = False) -> dict[str, Tensor]:
    """Two short rows of ordinary tokens; `shared`: a prefix and two endings."""
    config = text_config(module)
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


def is_causal(module: nn.Module) -> bool:
    """A decoder's attention layers say so themselves."""
    marks = [layer.is_causal for layer in module.modules() if isinstance(getattr(layer, "is_causal", None), bool)]
    if marks:
        return all(marks)
    return bool(getattr(text_config(module), "is_decoder", False)) or type(module).__name__.endswith("ForCausalLM")
