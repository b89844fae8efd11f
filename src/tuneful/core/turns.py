"""What an adapter may be told, and asked, where tasks are learned one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class TakesTurns(Protocol):
    """Optional, of an adapter at work: which task is learned, counted from 0 over all that were ever learned."""

    def begin_task(self, number: int) -> None: ...  # before its updates, and again where they are gone on with
    def end_task(self, number: int) -> None: ...  # after the last of them, before anybody looks at what was learned


@runtime_checkable
class AddsFactors(Protocol):
    """Optional, of an adapter at work that has low-rank factors for each task."""

    def factors(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    # ^ layer by layer (K, I) what those of earlier tasks read, without a slope, and (R, I) that of the one at hand
