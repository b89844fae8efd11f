"""A model behind an address that speaks as OpenAI's chat completions do; nearly every server does."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tuneful.core.errors import EndpointError
from tuneful.core.types import Message

TRIES, PAUSE = 4, 1.0  # seconds before the second try, twice as many before each further one
TAG = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)
SPEED = 10.0  # tokens per second that a slow server writes
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}  # answers that may be others a moment later


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url` as in `http://localhost:8000/v1`."""

    url: str
    model: str
    key: str | None = None
    seconds: float = 60.0  # that a server may say nothing; longer answers may take longer
    pause: float = PAUSE

    def patience(self, limit: int) -> float:
        """Seconds that an answer of `limit` tokens may take."""
        return self.seconds * max(1.0, limit / (SPEED * 60.0))

    def write(self, messages: Sequence[Message], *, limit: int, temperature: float, seed: int) -> tuple[str, bool]:
        """One answer, "" where the model gave none, and whether the limit cut it. Raises EndpointError when there is
        none after a few tries, or never will be."""
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
                return self._ask(body, self.patience(limit))
            except EndpointError as error:
                if not error.passing:
                    raise
                problem = error
                if number + 1 < TRIES:
                    time.sleep(self.pause * 2**number)
        raise problem

    def _ask(self, body: dict[str, Any], seconds: float) -> tuple[str, bool]:
        headers = {"Content-Type": "application/json", "User-Agent": "tuneful"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        address = f"{self.url.rstrip('/')}/chat/completions"
        asked = urllib.request.Request(address, json.dumps(body).encode(), headers)
        try:
            with OPENER.open(asked, timeout=seconds) as answer:
                said = answer.read()
        except urllib.error.HTTPError as error:
            raise EndpointError(
                f"{address} answers {error.code}: {_told(error)}", passing=error.code in AGAIN
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise EndpointError(f"{address}: {getattr(error, 'reason', None) or repr(error)}") from None
        try:  # what was answered is paid for, so it is not asked again
            choice = json.loads(said.decode("utf-8", "replace"))["choices"][0]
            return str(choice["message"]["content"] or ""), choice.get("finish_reason") == "length"
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            raise EndpointError(f"{address} answers with something that is no chat completion", passing=False) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key is for the address it was given for."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


OPENER = urllib.request.build_opener(_NoRedirect)


def _told(error: urllib.error.HTTPError) -> str:
    with error, suppress(OSError, http.client.HTTPException):
        return " ".join(TAG.sub(" ", error.read(2000).decode("utf-8", "replace")).split())[:200]
    return ""
