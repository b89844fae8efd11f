"""The report's words in each language it speaks; the texts lie in `assets/words.*.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml

LANGUAGES = ("en", "zh-TW")


@cache
def words(language: str) -> Mapping[str, str]:
    """Every language has the same keys; a test holds them to it."""
    if language not in LANGUAGES:
        raise ValueError(f"there is no language '{language}'; known: {', '.join(LANGUAGES)}")
    text = files("tuneful.evaluation").joinpath("assets", f"words.{language}.yaml").read_text(encoding="utf-8")
    loaded: dict[str, str] = yaml.safe_load(text)
    return loaded
