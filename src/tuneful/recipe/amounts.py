"""Amounts as people write them."""

from __future__ import annotations

import re

SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600}
UNITS = {"": 1, "MB": 1, "MIB": 1, "GB": 1024, "GIB": 1024}


def as_memory(text: str) -> str:
    """Checks `4GB`, `800 MB` or a number of megabytes. Raises ValueError."""
    megabytes(text)
    return text


def megabytes(text: str) -> int:
    """Of 2**20 bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].upper() not in UNITS:
        raise ValueError(f"'{text}' is no amount of memory; write for example 4GB or 800MB")
    return round(float(match[1]) * UNITS[match[2].upper()])


def seconds(text: str) -> float:
    """`90s`, `20m` or `1.5h`. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]+)\s*", text)
    if match is None or match[2].lower() not in SECONDS or not float(match[1]):
        raise ValueError(f"'{text}' is no amount of time; write for example 90s, 20m or 1.5h")
    return float(match[1]) * SECONDS[match[2].lower()]
