"""Who writes rows: a model behind an address, or one on this computer."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from tuneful.core.endpoint import Endpoint
from tuneful.core.errors import EndpointError
from tuneful.data.synthesise import Question
from tuneful.models.sampling import Generator
from tuneful.run.tuned import Tuned

Keep = Callable[[Question, str, bool], None]  # an answer, and whether its limit cut it
AT_ONCE = 4  # requests an endpoint has before it
TOGETHER = 16  # requests a model on this computer answers at once
FAILED = 3  # requests in a row without an answer after which no more are sent


class Writer(Protocol):
    """Who writes. `keep` is called once for each answer, as soon as it is there, from any thread."""

    @property
    def name(self) -> str: ...
    @property
    def temperature(self) -> float: ...
    def write(self, requests: Sequence[Question], limit: int, keep: Keep) -> Iterator[None]: ...


@dataclass(frozen=True, slots=True)
class Remote:
    """A model behind an address, a few requests at a time."""

    endpoint: Endpoint
    temperature: float

    @property
    def name(self) -> str:
        return self.endpoint.model

    def write(self, requests: Sequence[Question], limit: int, keep: Keep) -> Iterator[None]:
        """Yields after every answer. Raises EndpointError where it will answer no more; a request that stays unanswered
        among others is passed over."""

        def ask(request: Question) -> None:
            keep(request, *self.endpoint.write(
                request.messages, limit=limit, temperature=self.temperature, seed=request.turn
            ))  # fmt: skip

        failed = 0
        with ThreadPoolExecutor(AT_ONCE) as threads:
            for part in _parts(requests, AT_ONCE):
                problem = None
                for done in as_completed([threads.submit(ask, request) for request in part]):
                    try:
                        done.result()
                        failed = 0
                        yield
                    except EndpointError as error:
                        failed, problem = failed + 1, error
                if problem is not None and (failed >= FAILED or not problem.passing):
                    raise problem


@dataclass(frozen=True, slots=True)
class Local:
    """A model on this computer."""

    name: str
    tuned: Tuned
    temperature: float

    def write(self, requests: Sequence[Question], limit: int, keep: Keep) -> Iterator[None]:
        processor = self.tuned.processor
        for part in _parts(requests, TOGETHER):
            prompts = [processor.prompt(request.messages).ids for request in part]
            seed = zlib.crc32(part[0].key(self.name, self.temperature).encode())
            found = Generator(processor).sample(
                self.tuned.policy, prompts, limit=limit, temperature=self.temperature, seed=seed
            )
            for request, answer in zip(part, found, strict=True):
                keep(request, answer.text, not answer.stopped)
                yield


def _parts(requests: Sequence[Question], size: int) -> Iterator[Sequence[Question]]:
    for start in range(0, len(requests), size):
        yield requests[start : start + size]
