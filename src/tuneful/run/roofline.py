"""What this machine could do for a model if nothing but its products took time, and what to expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from tuneful.core.device import matmul_gflops, pick_device, read_gigabytes
from tuneful.engine.cost import UTILISATION
from tuneful.engine.work import operations
from tuneful.models.load import locate
from tuneful.models.size import Size, size_of

ROWS = 256  # tokens of a product while training
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
BYTES = {"fp32": 4, "bf16": 2}
LORA_RANK = 16


@dataclass(frozen=True, slots=True)
class Roofline:
    """Measured rates, and the tokens a second they allow."""

    model: str
    products: list[dict[str, Any]]  # out, in, and GFLOP/s in each precision
    gigabytes_per_second: float
    ceilings: dict[str, dict[str, float]]  # work -> precision -> tokens a second at the full rate
    expected: dict[str, dict[str, float]]  # the same at the utilisation measured for this version


def roofline(model: str) -> Roofline:
    """Takes a few seconds. Raises ModelError."""
    size = size_of(model, locate(model))
    device = pick_device()
    products = [
        {"out": outer, "in": inner}
        | {name: round(matmul_gflops(dtype, device, 0.2, (ROWS, inner, outer)), 1) for name, dtype in DTYPES.items()}
        for outer, inner in size.shapes
    ]
    read = read_gigabytes(device)
    ceilings: dict[str, dict[str, float]] = {"lora": {}, "full": {}, "writing, one row": {}}
    expected: dict[str, dict[str, float]] = {"lora": {}, "full": {}}
    needed = {
        work: operations(size.body, size.low_rank(LORA_RANK), frozen=work == "lora") + 4.0 * size.vocabulary
        for work in ("lora", "full")
    }  # for a token that is read and learned
    for name in DTYPES:
        rate = _mean_rate(size, products, name)
        for work, count in needed.items():
            ceilings[work][name] = round(rate * 1e9 / count, 1)
            expected[work][name] = round(UTILISATION[name] * rate * 1e9 / count, 1)
        ceilings["writing, one row"][name] = round(read * 1e9 / (BYTES[name] * (size.body + size.vocabulary)), 1)
    return Roofline(model, products, round(read, 1), ceilings, expected)


def _mean_rate(size: Size, products: list[dict[str, Any]], name: str) -> float:
    """GFLOP/s over all products, each weighed by its operations; kinds of one size are taken to be equally many."""
    *body, output = products
    times = [product["out"] * product["in"] / product[name] for product in body]
    mean = sum(product["out"] * product["in"] for product in body) / sum(times)
    return (size.body + size.vocabulary) / (size.body / mean + size.vocabulary / output[name])
