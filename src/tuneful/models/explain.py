"""What the libraries below raise about a model folder, in words that name the model and the remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuneful.core.errors import ModelError


@contextmanager
def explained(name: str, folder: Path) -> Iterator[None]:
    """What the libraries raise about a model folder, in words that name the model and the remedy."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise ModelError(f"the weights of {name} are damaged ({error}); fetch the model again: {folder}") from None
    except json.JSONDecodeError as error:
        raise ModelError(f"a JSON file of {name} is damaged (line {error.lineno}); fetch it again: {folder}") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        text = str(error).strip()
        if "trust_remote_code" in text:
            raise ModelError(
                f"{name} brings Python code of its own, which Tuneful does not run unasked.\n"
                "  If you trust it: --set trust_remote_code=true"
            ) from None
        raise ModelError(f"{name} cannot be loaded: {text.splitlines()[0] if text else error!r}") from error
