"""A model behind an address that speaks as OpenAI's chat completions do; nearly every server does."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.core.errors import EndpointError
from tuneful.core.types import Message

TRIES, PAUSE = 4, 1.0  # seconds before the second try, twice as many before each further one
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}  # answers that may be others a moment later


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url` as in `http://localhost:8000/v1`."""

    url: str
    model: str
    key: str | None = None
    seconds: float = 60.0  # that one answer may take
    pause: float = PAUSE

    def write(self, messages: Sequence[Message], *, limit: int, temperature: float, seed: int) -> str:
        """One answer. Raises EndpointError when there is none after a few tries, or never will be."""
        body = {
            "model": self.model,
            "messages": [message.template() for message in messages],
            "max_tokens": limit,
            "temperature": temperature,
            "seed": seed,
        }
        problem = EndpointError("not asked")
        for number in range(TRIES):
            try:
                return self._ask(body)
            except EndpointError as error:
                if not error.passing:
                    raise
                problem = error
                if number + 1 < TRIES:
                    time.sleep(self.pause * 2**number)
        raise problem

    def _ask(self, body: dict[str, Any]) -> str:
        headers = {"Content-Type": "application/json", "User-Agent": "tuneful"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        asked = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(asked, timeout=self.seconds) as answer:
                said = json.loads(answer.read().decode("utf-8", "replace"))
                text = said["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            with error:
                told = error.read(300).decode("utf-8", "replace").strip()
            raise EndpointError(f"{address} answers {error.code}: {told}", passing=error.code in AGAIN) from None
        except (OSError, TimeoutError) as error:
            raise EndpointError(f"{address}: {getattr(error, 'reason', error)}") from None
        except (ValueError, KeyError, IndexError, TypeError):
            raise EndpointError(f"{address} answers with something that is no chat completion") from None
        if not isinstance(text, str):
            raise EndpointError(f"{address} answers without a text")
        return text
