"""The command line: parse and print. Nothing here imports torch before a command needs it."""

from tuneful.cli.main import main

__all__ = ["main"]
