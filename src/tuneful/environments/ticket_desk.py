"""A desk where customers want their money back, with tools and rules."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tuneful.core.environment import Turn
from tuneful.core.spec import Spec
from tuneful.core.types import Example, Message, Place
from tuneful.environments import calls
from tuneful.environments.drawn import apart, chance

DAYS, PRICE = 30, 100  # a refund is for what came no longer ago, and costs no more
ORDER = {"type": "string", "description": "The number of the order."}
AMOUNT = {"type": "number", "minimum": 0, "maximum": 1_000_000}
TOOLS = (
    calls.tool("look_up", "Shows an order.", {"order": ORDER}),
    calls.tool("refund", "Pays the price of an order back.", {"order": ORDER, "amount": AMOUNT}),
    calls.tool("escalate", "Hands an order over to a person.", {"order": ORDER}),
    calls.tool("close", "Ends the ticket."),
)
RULES = (
    "You work at the desk of a shop. A ticket of a customer who wants money back comes in. First look the order up. "
    f"If it came more than {DAYS} days ago or was paid back before, close the ticket without a refund. Otherwise, if "
    f"it costs more than {PRICE}, escalate it and close the ticket. Otherwise refund its price exactly, and close the "
    "ticket."
)
GOODS = ("lamp", "kettle", "chair", "radio", "clock", "jacket", "tent", "camera", "printer", "bicycle helmet")
WRONG = ("came broken", "does not work", "has the wrong colour", "is too small", "stopped working", "lacks a part")


class TicketDesk(Spec):
    """The model serves a ticket by calling tools, one a reply, as JSON in its text. At the end the state of the shop is
    looked at: 1 if exactly what the rules want was done, to the right order, after looking it up, and the ticket
    closed; else `partial` for having looked up the right order; what was done wrongly is worth 0."""

    kind: Literal["ticket_desk"] = "ticket_desk"
    turns: PositiveInt = 6
    """Replies in all. The longest right way takes 3."""
    partial: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """What it is worth to look up the right order and then do nothing wrong."""
    tell_tools: bool = True
    """The tools stand in the prompt in a line each. If not, the model's chat template is given them."""
    patience: PositiveFloat = 10.0
    """Seconds that a call may take."""

    def examples(self, count: int, seed: int) -> list[Example]:
        """All different."""
        worlds = apart(count, seed, draw, self.kind)
        return [self._example(seed, number, world) for number, world in enumerate(worlds)]

    def episode(self, example: Example, seed: int) -> Ticket:
        """The ticket is the example's label; of an example without one, it is drawn by the seed."""
        world = draw(chance(seed)) if example.label is None else example.label
        return Ticket(self, example.messages or self._asked(world), world)

    def optimum(self) -> float:
        """What the best player gets: `solution` is worth this in every ticket."""
        return 1.0

    def _example(self, seed: int, number: int, world: dict[str, Any]) -> Example:
        place = Place(f"{self.kind} {seed}", number + 1, "task")
        return Example(place, messages=self._asked(world), label=world, tools=() if self.tell_tools else TOOLS)

    def _asked(self, world: Mapping[str, Any]) -> tuple[Message, Message]:
        tools = f"\n\nTools:\n{calls.told(TOOLS)}" if self.tell_tools else ""
        return Message("system", f"{RULES}{tools}\n\n{calls.EXPECTED}"), Message("user", world["says"])


class Ticket:
    """One ticket, and the shop as far as it can be seen from the desk."""

    def __init__(self, rules: TicketDesk, prompt: Sequence[Message], world: Mapping[str, Any]) -> None:
        self.tools: Sequence[Mapping[str, Any]] = () if rules.tell_tools else TOOLS
        self.prompt, self._rules, self._world, self._replies = prompt, rules, world, 0
        self._orders: dict[str, dict[str, Any]] = {number: dict(order) for number, order in world["orders"].items()}
        self._done: list[tuple[str, str, float]] = []  # refunds and escalations, in order
        self._seen: set[str] = set()
        self._blind = False  # something was done to an order before it was looked at

    def reply(self, text: str) -> Turn:
        self._replies += 1
        try:
            name, arguments = calls.called(text, TOOLS)
            told = self._call(name, arguments)
        except ValueError as error:
            name, told = "", {"error": str(error)}
        if name == "close" or self._replies == self._rules.turns:
            return self._end(closed=name == "close")
        return Turn(0.0, done=False, messages=(Message("user", f"Result: {json.dumps(told)}"),))

    def _call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if name == "close":
            return {}
        number = arguments["order"]
        if number not in self._orders:
            raise ValueError(f"There is no order {number}.")
        if name == "look_up":
            self._seen.add(number)
            return {"order": number, **self._orders[number]}
        self._blind |= number not in self._seen
        self._done.append((name, number, float(arguments.get("amount", 0))))
        if name == "refund":
            self._orders[number]["paid_back"] = True
        return {"done": name}

    def _end(self, *, closed: bool) -> Turn:
        number = self._world["order"]
        wanted = outcome(self._world["orders"][number])
        right = self._done == ([] if wanted == "close" else [self._wanted(wanted)])
        seen = number in self._seen
        parts = {"right": float(right), "looked_up": float(seen), "closed": float(closed)}
        if right and seen and closed and not self._blind:
            return Turn(1.0, done=True, parts=parts)
        return Turn(self._rules.partial if seen and not self._done else 0.0, done=True, parts=parts)

    def _wanted(self, name: str) -> tuple[str, str, float]:
        number = self._world["order"]
        return name, number, float(self._world["orders"][number]["price"]) if name == "refund" else 0.0


def outcome(order: Mapping[str, Any]) -> str:
    """What the rules want: refund, escalate, or close and nothing more."""
    if order["paid_back"] or order["days_since_delivery"] > DAYS:
        return "close"
    return "escalate" if order["price"] > PRICE else "refund"


def solution(world: Mapping[str, Any]) -> list[str]:
    """The replies of somebody who keeps the rules."""
    number = world["order"]
    order = world["orders"][number]
    steps: list[tuple[str, dict[str, Any]]] = [("look_up", {"order": number})]
    if (wanted := outcome(order)) != "close":
        amount = {"amount": order["price"]} if wanted == "refund" else {}
        steps.append((wanted, {"order": number, **amount}))
    steps.append(("close", {}))
    return [json.dumps({"name": name, "arguments": arguments}) for name, arguments in steps]


def draw(chance: random.Random) -> dict[str, Any]:
    """A ticket about one of three orders; each of the four cases is as likely as the others."""
    numbers = chance.sample(range(1000, 10000), 3)
    orders = {f"A{number}": _order(chance, chance.randrange(4)) for number in numbers}
    number = chance.choice(list(orders))
    item = orders[number]["item"]
    says = f"My {item} {chance.choice(WRONG)}. I want my money back for order {number}."
    return {"order": number, "orders": orders, "says": says}


def _order(chance: random.Random, case: int) -> dict[str, Any]:
    late, dear, paid = case == 1, case == 2, case == 3
    return {
        "item": chance.choice(GOODS),
        "price": chance.randint(PRICE + 1, 4 * PRICE) if dear else chance.randint(5, PRICE),
        "days_since_delivery": chance.randint(DAYS + 1, 4 * DAYS) if late else chance.randint(0, DAYS),
        "paid_back": paid,
    }
