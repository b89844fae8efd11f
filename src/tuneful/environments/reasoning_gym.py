"""The tasks of reasoning-gym, made by a seed, whose answers are checked by rule."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat

from tuneful.core.environment import Turn
from tuneful.core.spec import Spec
from tuneful.core.types import Example, Message, Place
from tuneful.environments.drawn import own_seed
from tuneful.environments.in_time import finite
from tuneful.environments.rewards.texts import compiled, last_found

SCRIPT = Path(__file__).with_name("reasoned.py")
STARTING = 60.0  # seconds the library may take to be read


class ReasoningGym(Spec):
    """One of the hundred kinds of tasks of reasoning-gym (Stojanovski et al. 2025, arXiv:2505.24760), each with a rule
    that scores a reply from 0 to 1. Some of these rules run what the model wrote as Python, so they are asked in a
    process of their own, behind the walls of the sandbox.

    Tasks of different seeds are different draws: the library gives the task number n of seed s again as number n - 1 of
    seed s + 1, which is avoided here by seeds that lie far apart."""

    turns: ClassVar[int] = 1
    at_once: ClassVar[int] = 1

    kind: Literal["reasoning_gym"] = "reasoning_gym"
    dataset: str = "chain_sum"
    """The kind of task, as reasoning-gym calls it."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Of that kind, such as `{max_terms: 3}`."""
    hint: str = ""
    """Added to each question, such as how the answer is to be written."""
    answer: str = ""
    """A regular expression whose first group is the answer in a reply, such as `<answer>(.*?)</answer>`; the last place
    where it is found counts. Empty: the reply is the answer."""
    whole: bool = False
    """Only a full score counts: 1, or 0."""
    patience: PositiveFloat = 90.0
    """Seconds that a reply may take to be scored. Reading the library takes some, once."""
    seconds: PositiveFloat = 10.0
    """That scoring one reply may take by its own rules, before it is ended."""

    def lacking(self) -> list[str]:
        if importlib.util.find_spec("reasoning_gym") is None:
            return ["reasoning-gym is not here: pip install 'tuneful[rl]'"]
        try:
            if self.answer:
                compiled(self.answer)
            self._ask({"of": self._of(0, 1)}, STARTING)
        except (ValueError, TimeoutError, ConnectionError) as error:
            return [f"reasoning_gym: {self.dataset}: {error}"]
        return []

    def examples(self, count: int, seed: int) -> list[Example]:
        """With the library's own answer at the end, where it has one."""
        first = own_seed(seed, 0)
        rows = self._ask({"of": self._of(first, count)}, STARTING)
        return [self._example(f"{self.dataset} {seed}", first, count, number, row) for number, row in enumerate(rows)]

    def episode(self, example: Example, seed: int) -> Reasoned:
        if not isinstance(example.label, Mapping) or not {"seed", "size", "index"} <= example.label.keys():
            raise ValueError(f"{example.place}: this is no task of reasoning-gym; take those that it makes")
        return Reasoned(self, example)

    def score(self, reply: str, label: Mapping[str, Any]) -> float:
        """What the rule of the task says of a reply."""
        found = last_found(self.answer, reply) if self.answer else reply.strip()
        if found is None:
            return 0.0
        asked = {"of": self._of(label["seed"], label["size"]), "index": label["index"], "reply": found.strip()}
        score = finite(self._ask(asked, self.seconds), self.dataset)
        return float(score >= 1) if self.whole else score

    def _of(self, seed: int, size: int) -> dict[str, Any]:
        return {**self.settings, "name": self.dataset, "seed": seed, "size": size}

    def _ask(self, asked: Mapping[str, Any], seconds: float) -> Any:
        return BESIDE.ask(asked, seconds)

    def _example(self, source: str, seed: int, size: int, number: int, row: Mapping[str, Any]) -> Example:
        question = f"{row['question']}\n{self.hint}" if self.hint else row["question"]
        right = () if row["answer"] is None else (Message("assistant", str(row["answer"])),)
        label = {"seed": seed, "size": size, "index": number}
        return Example(Place(source, number + 1, "task"), messages=(Message("user", question), *right), label=label)


class Reasoned:
    """One task."""

    tools: Sequence[Mapping[str, Any]] = ()

    def __init__(self, rules: ReasoningGym, example: Example) -> None:
        self._rules, self._label = rules, example.label
        self.prompt: Sequence[Message] = example.messages[:1]

    def reply(self, text: str) -> Turn:
        return Turn(self._rules.score(text, self._label), done=True)


class Beside:
    """The process that has read the library: one for all, begun when it is first asked, and again if it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def ask(self, asked: Mapping[str, Any], seconds: float) -> Any:
        """Raises ValueError with what the library says, TimeoutError if it says nothing for so long."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._begin()
                seconds += STARTING
            said = self._said(json.dumps(asked).encode() + b"\n", seconds)
        if "error" in said:
            raise ValueError(said["error"])
        return said["said"]

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _begin(self) -> None:
        self.end()
        self._folder = tempfile.TemporaryDirectory(prefix="tuneful-", ignore_cleanup_errors=True)
        command = [sys.executable, "-B", "-E", "-s", "-X", "utf8", str(SCRIPT)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=self._folder.name,
            env={}, start_new_session=True,
        )  # fmt: skip
        self._write(json.dumps({"path": [place for place in sys.path if place]}).encode() + b"\n")

    def _said(self, request: bytes, seconds: float) -> dict[str, Any]:
        until, said = time.monotonic() + seconds, b""
        self._write(request)
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while not said.endswith(b"\n"):
            ready, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self.end()
                raise TimeoutError(f"reasoning-gym gave no score within {seconds:g} s")
            more = os.read(pipe, 1 << 16)
            if not more:
                self.end()
                raise ConnectionError("the process of reasoning-gym ended while it was asked")
            said += more
        found: dict[str, Any] = json.loads(said)
        return found

    def _write(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()


BESIDE = Beside()
atexit.register(BESIDE.end)
