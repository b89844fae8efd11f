"""Tweets that people called hateful, offensive or neither (Davidson et al. 2017, arXiv:1703.04009)."""

from __future__ import annotations

import csv
import html
from pathlib import Path

KINDS = {"0": "hateful", "1": "offensive", "2": "neither"}


def tweets(data: Path) -> list[tuple[str, str]]:
    """Text and kind."""
    (path,) = (data / "davidson_hate").glob("*.csv")
    with path.open(newline="", encoding="utf-8") as file:
        return [(html.unescape(row["tweet"]), KINDS[row["class"]]) for row in csv.DictReader(file)]
