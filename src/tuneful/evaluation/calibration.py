"""Is a classifier as often right as it is sure? And which temperature would mend it?

Guo et al. 2017, arXiv:1706.04599: expected calibration error (equation 3) and temperature scaling (equation 9). Differs
from the paper: bins hold equally many rows instead of being equally wide (Nixon et al. 2019, arXiv:1904.01685), so that
none is empty; and beside the error stands what a model without any fault would show with as few rows, for the error is
never below zero and so never zero by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tuneful.core.types import Said

BINS = 15
LEAST_IN_BIN = 10  # rows; fewer rows get fewer bins
LEAST = 20  # rows, to be measured by or to fit a temperature on
ENOUGH = 100  # rows, from which a confidence may be believed that shows no fault
LOOSE = 0.1  # an error that a faultless model may show; above, an error within it says nothing
DRAWS = 1000
COLDEST, HOTTEST = 0.05, 20.0


def probabilities(logits_RC: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    scaled = logits_RC.astype(np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(1, keepdims=True))
    return scaled / scaled.sum(1, keepdims=True)


def bins_for(rows: int) -> int:
    return max(1, min(BINS, rows // LEAST_IN_BIN))


def error(sure: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """(...,) the mean over rows of how far their bin's confidence lies from how often it is right. Both (..., R), in
    the order of confidence."""
    total, rows = np.zeros(sure.shape[:-1]), sure.shape[-1]
    for place in np.array_split(np.arange(rows), bins):
        total = total + np.abs(sure[..., place].mean(-1) - right[..., place].mean(-1)) * (len(place) / rows)
    return total


def calibration(logits_RC: np.ndarray, targets_R: np.ndarray, *, seed: int = 0) -> dict[str, Any]:
    """The error with its interval, what chance alone would show, how sure and how right the model is, and the bins.

    The interval is the basic bootstrap's (Davison and Hinkley 1997, section 5.2), which takes back what drawing rows
    adds to an error that cannot be below zero."""
    shares = probabilities(logits_RC)
    sure, right = shares.max(1), (shares.argmax(1) == targets_R).astype(np.float64)
    order = np.argsort(sure, kind="stable")
    sure, right, rows, bins = sure[order], right[order], len(order), bins_for(len(order))
    found, rng = float(error(sure, right, bins)), np.random.default_rng(seed)
    drawn = np.sort(rng.integers(rows, size=(DRAWS, rows)), axis=1)
    low, high = np.quantile(error(sure[drawn], right[drawn], bins), [0.025, 0.975])
    faultless = error(np.broadcast_to(sure, (DRAWS, rows)), (rng.random((DRAWS, rows)) < sure) * 1.0, bins)
    places = np.array_split(np.arange(rows), bins)
    return {
        "ece": round(found, 5),
        "ci95": [round(max(0.0, 2 * found - high), 5), round(max(0.0, 2 * found - low), 5)],
        "by_chance": round(float(np.quantile(faultless, 0.95)), 5),
        "confidence": round(float(sure.mean()), 5),
        "accuracy": round(float(right.mean()), 5),
        "n": rows,
        "bins": [[round(float(of[place].mean()), 5) for of in (sure, right)] + [len(place)] for place in places],
    }


def temperature(logits_RC: np.ndarray, targets_R: np.ndarray) -> float:
    """What logits are divided by so that the truth is likeliest. The slope of the loss rises with 1 / T, so it is
    halved in on; where every row is right the model cannot be sure enough, and the coldest is the answer."""
    logits = logits_RC.astype(np.float64)
    wanted = logits[np.arange(len(logits)), targets_R]

    def slope(heat: float) -> float:
        return float(((probabilities(logits, heat) * logits).sum(1) - wanted).mean())

    low, high = COLDEST, HOTTEST
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if slope(middle) < 0 else (middle, high)
    return float(np.sqrt(low * high))


def advice(found: Mapping[str, Any], mended: Mapping[str, Any] | None) -> Said:
    """One sentence; `mended` is the measure at the temperature found on validation rows, and that."""
    facts = {"ece": _percent(found["ece"]), "chance": _percent(found["by_chance"]),
             "sure": _percent(found["confidence"]), "right": _percent(found["accuracy"])}  # fmt: skip
    if found["ece"] <= found["by_chance"]:
        few = found["n"] < ENOUGH or found["by_chance"] > LOOSE
        return Said("calibration_unsure", {**facts, "n": found["n"]}) if few else Said("calibration_fine", facts)
    over = found["confidence"] > found["accuracy"]
    if mended is None or mended["ece"] >= found["ece"]:
        return Said("calibration_over", facts) if over else Said("calibration_under", facts)
    facts |= {"temperature": float(f"{mended['temperature']:.3g}"), "mended": _percent(mended["ece"])}
    return Said("calibration_over_mended", facts) if over else Said("calibration_under_mended", facts)


def _percent(share: float) -> float:
    return round(100 * share, 1)
