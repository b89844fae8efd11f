"""Tasks of an environment's own, by number and seed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

from tuneful.core.environment import PARTS
from tuneful.core.errors import InputError
from tuneful.core.types import Example, Message, Place

EACH = 1 << 20  # tasks of one seed
TRIES = 200  # draws for each task that is wanted


def chance(*seeds: int | str) -> random.Random:
    """The same for the same seeds on every machine."""
    return random.Random(" ".join(map(str, seeds)))


def own_seed(seed: int, number: int) -> int:
    """A seed for each task that no task of a `seed` has that differs from this one modulo `PARTS`, or by no more than a
    thousand."""
    if not 0 <= number < EACH:
        raise InputError(f"{EACH} tasks are there for each seed; ask for fewer")
    slots = (1 << 31) // EACH // PARTS  # below 2^31, which every library takes
    return (seed // PARTS % slots * PARTS + seed % PARTS) * EACH + number


def apart(count: int, seed: int, draw: Callable[[random.Random], Any], noun: str) -> list[Any]:
    """So many worlds, all different, and none of them one of a seed that differs from this one modulo `PARTS`."""
    found: dict[str, Any] = {}
    for number in range(TRIES * count):
        if len(found) == count:
            break
        world = draw(chance(seed, number))
        written = json.dumps(world, sort_keys=True)
        if hashlib.sha256(written.encode()).digest()[0] % PARTS == seed % PARTS:
            found.setdefault(written, world)
    if len(found) < count:
        raise InputError(
            f"{noun}: {count} different tasks are asked for, and there seem to be {len(found)}; ask for fewer, or make "
            "the world larger"
        )
    return list(found.values())


def example(noun: str, seed: int, number: int, asked: str, world: Any) -> Example:
    """One task: what is asked, with the world as its label."""
    return Example(Place(f"{noun} {seed}", number + 1, "task"), messages=(Message("user", asked),), label=world)
