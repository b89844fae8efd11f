"""Tuneful fine-tunes a pretrained model on your data, and says with numbers what that did.

run = tuneful.fit("data.csv")
print(run.report["verdict"]["sentence"])
tuneful.load(run.path).classify(["a text"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneful.recipe import Recipe
    from tuneful.run import Run, best_of, fit, learn, load, merge, rate, unlearn

__version__ = "0.1.0"
__all__ = ["Recipe", "Run", "__version__", "best_of", "fit", "learn", "load", "merge", "rate", "unlearn"]


def __getattr__(name: str) -> Any:
    # Importing tuneful must not import torch: names are fetched when they are first used.
    if name in ("best_of", "fit", "learn", "load", "merge", "rate", "unlearn", "Run"):
        import tuneful.run

        return getattr(tuneful.run, name)
    if name == "Recipe":
        from tuneful.recipe import Recipe

        return Recipe
    raise AttributeError(f"module 'tuneful' has no attribute '{name}'")
