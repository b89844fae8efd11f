"""The only room that knows all others: prepare, build, train, report, and use what came out."""

from tuneful.run.api import Run, fit, learn, load, merge, unlearn

__all__ = ["Run", "fit", "learn", "load", "merge", "unlearn"]
