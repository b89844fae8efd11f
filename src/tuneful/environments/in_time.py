"""Many things that may raise, or never end, done at the same moment in bounded time."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

Answer = TypeVar("Answer")

AT_ONCE = 32  # where nobody says
STUCK = 256  # threads that were given up and still go on, beyond which no more are begun
_given_up: list[threading.Thread] = []
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no answer, in words."""

    why: str


@dataclass(slots=True)
class _Running:
    thread: threading.Thread
    until: float


class _Work(Generic[Answer]):
    """The jobs of one call. A thread each, which no exit of the interpreter waits for: a thread cannot be stopped, so
    one that takes too long is left alone and its answer passed over."""

    def __init__(self, jobs: Sequence[Callable[[], Answer]], patience: float) -> None:
        self.patience = patience
        self.waiting = deque(enumerate(jobs))
        self.running: dict[int, _Running] = {}
        self.said: SimpleQueue[tuple[int, Answer | Failed]] = SimpleQueue()
        self.found: dict[int, Answer | Failed] = {}

    def begin(self) -> None:
        number, job = self.waiting.popleft()
        if _stuck() >= STUCK:
            self.found[number] = Failed(f"not begun: {STUCK} earlier ones never ended")
            return
        thread = threading.Thread(target=self._do, args=(number, job), daemon=True, name="tuneful-judging")
        self.running[number] = _Running(thread, time.monotonic() + self.patience)
        thread.start()

    def _do(self, number: int, job: Callable[[], Answer]) -> None:
        try:
            self.said.put((number, job()))
        except BaseException as error:  # noqa: BLE001 - other people's code: sys.exit ends its episode, not the run
            self.said.put((number, Failed(_told(error))))

    def next(self) -> bool:
        """Wait for one answer, or for the time of one to be over; whether it was an answer."""
        until = min(one.until for one in self.running.values())
        try:
            number, answer = self.said.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            self._give_up()
            return False
        if self.running.pop(number, None) is not None:
            self.found[number] = answer
        return True

    def _give_up(self) -> None:
        now = time.monotonic()
        for number in [number for number, one in self.running.items() if one.until <= now]:
            with _lock:
                _given_up.append(self.running.pop(number).thread)
            self.found[number] = Failed(f"no answer within {self.patience:g} s")


def answers(jobs: Sequence[Callable[[], Answer]], *, patience: float, at_once: int = AT_ONCE) -> list[Answer | Failed]:
    """What each job returns, in order, or why it returns nothing: it raised, or took more than `patience` seconds.

    `at_once` are done at the same moment, and the time of each begins when it does. Once one was given up, the rest
    waits no more for its turn: however many never end, all is over after twice `patience` at most, and after once if
    there are no more than `at_once`. A job that holds Python's lock (a loop inside a C library) holds up everything.
    """
    work = _Work(jobs, patience)
    while work.waiting or work.running:
        while work.waiting and len(work.running) < at_once:
            work.begin()
        if work.running and not work.next():
            at_once = max(at_once, len(jobs))
    return [work.found[number] for number in range(len(jobs))]


def finite(value: Any, whose: str) -> float:
    """A reward as a float. Raises ValueError with words where it is no finite number."""
    if value is None or isinstance(value, str | bytes):
        raise ValueError(f"{whose} gave {value!r:.60}, where a number was expected")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{whose} gave {value!r:.60}, where a number was expected") from None
    if not math.isfinite(number):
        raise ValueError(f"{whose} gave {number}, which is no finite number")
    return number


def _stuck() -> int:
    """How many threads that were given up still go on."""
    with _lock:
        _given_up[:] = [thread for thread in _given_up if thread.is_alive()]
        return len(_given_up)


def _told(error: BaseException) -> str:
    try:
        said = " ".join(str(error).split())[:300]
    except Exception:  # noqa: BLE001 - other people's errors, which may raise when they are asked what they say
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
