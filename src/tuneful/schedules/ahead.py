"""Steps made ready by a thread of its own, so that training does not wait for rows to be read and encoded."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

from tuneful.core.types import Step

WAIT = 0.1  # seconds between two looks at whether anybody still wants the steps


def ahead(make: Callable[[int], Step], start: int, stop: int, most: int) -> Iterator[Step]:
    """`make(n)` for n from `start` to before `stop`, in this order; at most `most` wait. What `make` raises is raised
    here, in place of its step. Closing the iterator ends the thread."""
    ready: queue.Queue[Step | BaseException] = queue.Queue(most)
    over = threading.Event()

    def put(item: Step | BaseException) -> None:
        while not over.is_set():
            try:
                ready.put(item, timeout=WAIT)
                return
            except queue.Full:
                continue

    def work() -> None:
        for number in range(start, stop):
            try:
                step: Step | BaseException = make(number)
            except BaseException as error:  # noqa: BLE001 - handed over to whoever asks for the step
                step = error
            put(step)
            if over.is_set() or isinstance(step, BaseException):
                return

    thread = threading.Thread(target=work, name="rows ahead", daemon=True)
    thread.start()
    try:
        for _ in range(start, stop):
            step = ready.get()
            if isinstance(step, BaseException):
                raise step
            yield step
    finally:
        over.set()
        thread.join()
