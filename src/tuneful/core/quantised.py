"""Frozen weights in a byte or half a byte each: what is kept of them, and the numbers that stand for them.

    int8   W = s q: whole numbers q from -127 to 127 and a scale s for each output. torch alone, on any device.
    nf4    sixteen values spaced as a normal distribution is, a scale for every 64 weights, and the scales in eight
           bits themselves (Dettmers et al. 2023, arXiv:2305.14314, section 3). bitsandbytes', where that runs.

Only the numbers of the libraries are used, not their layers. bitsandbytes' four-bit layer changes its weights' order
when it is asked without a gradient on a processor, and has no slope from then on; a run that looks at validation rows
needs both in turn. Shapes: O outputs, I inputs, N rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from tuneful.core.errors import RecipeError

Kind = Literal["int8", "nf4"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BYTES: dict[Kind, float] = {"int8": 1.0, "nf4": 0.5 + 1 / 64}  # of a weight; one scale a row is next to nothing
LARGEST = 127  # of int8; -128 is left out, so that both signs reach as far
GROUP = 64  # weights that share a scale, in nf4
FEW = 16  # rows up to which a product with the bytes themselves is faster than making them whole


def quantised(kind: Kind, weight_OI: Tensor) -> Quantised:
    """On the weight's own device, for products in its dtype."""
    return Int8(weight_OI) if kind == "int8" else NF4(weight_OI)


def check(kind: Kind, device: torch.device) -> None:
    """Tried on a small matrix. Raises RecipeError with what is missing."""
    try:
        quantised(kind, torch.eye(GROUP, device=device)).whole()
    except ImportError:
        raise RecipeError(
            [f"quantise: {kind} needs bitsandbytes, which is not here: pip install 'tuneful[nf4]'; int8 needs nothing"]
        ) from None
    except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RecipeError(
            [f"quantise: {kind} does not work on this machine's {device.type} ({reason}); "
             f"leave it out, or try {', '.join(other for other in KINDS if other != kind)}"]
        ) from None  # fmt: skip


class Quantised(ABC):
    """A weight (O, I) that takes part in products of `dtype`. `raw` are its bytes, and no weight to multiply with."""

    def __init__(self, weight_OI: Tensor, raw: Tensor) -> None:
        self.raw = nn.Parameter(raw, requires_grad=False)
        self.shape, self.dtype, self.device = weight_OI.shape, weight_OI.dtype, weight_OI.device

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def whole(self, out_OI: Tensor | None = None) -> Tensor:
        """(O, I), written to `out_OI` if that is given."""

    def times(self, x_NI: Tensor) -> Tensor | None:
        """x W' (N, O) from the bytes themselves; None where that is no faster."""
        return None


class Int8(Quantised):
    """The scale is rounded to the dtype of the products first and the weights to multiples of that, so rounding it
    costs nothing."""

    def __init__(self, weight_OI: Tensor) -> None:
        exact_OI = weight_OI.detach().float()
        most_O1 = exact_OI.abs().amax(1, keepdim=True)
        self.scale_O1 = (most_O1 / LARGEST).to(weight_OI.dtype)
        self.scale_O1[self.scale_O1 == 0] = 1  # a row of zeros
        q_OI = (exact_OI / self.scale_O1.float()).round_().clamp_(-LARGEST, LARGEST).to(torch.int8)
        super().__init__(weight_OI, q_OI)

    def whole(self, out_OI: Tensor | None = None) -> Tensor:
        if out_OI is None:
            out_OI = torch.empty(self.shape, dtype=self.dtype, device=self.device)
        return out_OI.copy_(self.raw).mul_(self.scale_O1)

    def times(self, x_NI: Tensor) -> Tensor | None:
        if len(x_NI) > FEW or x_NI.dtype != torch.bfloat16 or self.device.type != "cpu" or not _multiplies_bytes():
            return None
        found: Tensor = torch.ops.aten._weight_int8pack_mm(x_NI.contiguous(), self.raw, self.scale_O1[:, 0])
        return found


class NF4(Quantised):
    """What bitsandbytes keeps of a weight, its scales quantised as well ("double quantisation")."""

    def __init__(self, weight_OI: Tensor) -> None:
        raw, self._state = _bitsandbytes().quantize_4bit(
            weight_OI.detach().contiguous(), blocksize=GROUP, compress_statistics=True, quant_type="nf4"
        )
        super().__init__(weight_OI, raw)

    def whole(self, out_OI: Tensor | None = None) -> Tensor:
        found: Tensor = _bitsandbytes().dequantize_4bit(self.raw, self._state)
        return found if out_OI is None else out_OI.copy_(found)


@cache
def _bitsandbytes() -> Any:
    """Raises ImportError."""
    import bitsandbytes.functional as numbers

    return numbers


@cache
def _multiplies_bytes() -> bool:
    """torch's own product for writing with int8 weights, without a promise for other versions of torch: tried once."""
    try:
        x, q = torch.ones(2, 32, dtype=torch.bfloat16), torch.full((16, 32), 2, dtype=torch.int8)
        found = torch.ops.aten._weight_int8pack_mm(x, q, torch.full((16,), 0.5, dtype=torch.bfloat16))
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return False
    return bool((found == 32).all())
