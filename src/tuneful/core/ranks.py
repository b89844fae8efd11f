"""What the processes of a run say to one another. In one process every one of these does nothing, and costs nothing."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tuneful.core.device import is_first, is_first_here, rank, world
from tuneful.core.errors import TunefulError

Answer = TypeVar("Answer")
BUCKET_BYTES = 1 << 27  # exchanged at once: a copy of a few tensors, not of a model


def gathered(value: Answer) -> list[Answer]:
    """What every rank says, in the order of ranks; small things, and all ranks must ask."""
    if world() == 1:
        return [value]
    said: list[Any] = [None] * world()
    dist.all_gather_object(said, value)
    return said


def totals(numbers: Mapping[str, float]) -> dict[str, float]:
    """Each number summed over the ranks, to the last bit the same on all of them."""
    found: dict[str, float] = {}
    for own in gathered(dict(numbers)):
        for name, value in own.items():
            found[name] = found.get(name, 0.0) + value
    return found


def add_up(tensors: Sequence[Tensor]) -> None:
    """Each becomes its sum over the ranks, in place; all ranks hold the same shapes in the same order. Many small ones
    are one exchange."""
    if world() == 1:
        return
    for part in _buckets(tensors):
        flat = torch.cat([tensor.flatten() for tensor in part])
        flat = flat if flat.device.type == "cuda" else flat.cpu()
        dist.all_reduce(flat)
        for tensor, summed in zip(part, flat.split([tensor.numel() for tensor in part]), strict=True):
            tensor.copy_(summed.view_as(tensor))


def equal_to_first(tensors: Iterable[Tensor]) -> None:
    """Each becomes what it is on the first rank, in place."""
    for tensor in tensors if world() > 1 else ():
        sent = tensor if tensor.device.type == "cuda" else tensor.cpu()
        dist.broadcast(sent, 0)
        tensor.copy_(sent)


def together(work: Callable[[], Answer]) -> Answer:
    """Every rank does this. If one cannot, none goes on: all raise the error of the first that has one."""
    if world() == 1:
        return work()
    failed: Exception | None = None
    try:
        answer = work()
    except Exception as found:  # noqa: BLE001 - whatever it is, the others must hear of it
        failed = found
    for number, theirs in enumerate(gathered(_portable(failed))):
        if theirs is not None:
            error = failed if failed is not None and number == rank() else theirs
            if isinstance(error, TunefulError):
                error.told = not is_first()
            raise error
    return answer


def first_alone(work: Callable[[], object]) -> None:
    """The first rank does this while the others wait; what it raises, all raise."""
    together(work if is_first() else lambda: None)


@contextmanager
def in_turn() -> Iterator[None]:
    """The first rank of each computer goes first, so that the others find what it has fetched or converted."""
    waits = not is_first_here()
    if waits:
        gathered(None)
    try:
        yield
    finally:
        if not waits:
            gathered(None)


def _portable(error: Exception | None) -> Exception | None:
    """As the other ranks can read it."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error of a library may hold anything
        return RuntimeError(repr(error))
    return error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one dtype and device, about BUCKET_BYTES together."""
    kinds: dict[object, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for members in kinds.values():
        part: list[Tensor] = []
        for tensor in members:
            part.append(tensor)
            if sum(held.nbytes for held in part) >= BUCKET_BYTES:
                yield part
                part = []
        if part:
            yield part
