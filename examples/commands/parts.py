"""What a command is made of: its slots, how their values are said, and the sentences around them.

Words are copied from the request as they stand; only numbers and times are normalised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple


class Said(NamedTuple):
    """A value as it stands in the command, and the words of the request that mean it."""

    value: str | int
    text: str


Slots = dict[str, Said]


@dataclass(frozen=True, slots=True)
class Wording:
    """An action in one language. `train`, `validation` and `test` hold its sentences, one a line; no split borrows
    another's."""

    draw: Callable[[Random], Slots]
    train: str
    validation: str
    test: str

    def sentences(self, split: str) -> list[str]:
        return [line.strip() for line in getattr(self, split).strip().splitlines()]


@dataclass(frozen=True, slots=True)
class Action:
    """Something the assistant can do."""

    name: str
    english: Wording
    chinese: Wording | None = None


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DAYS_ZH = ("明天", "星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")
ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SPANS = ((15, "a quarter of an hour"), (30, "half an hour"))
SPANS_ZH = ((30, "半小時"),)
IN_WORDS = 0.25  # share of numbers that are spelled out
# Few times are said with am or pm, so that a small model meets each of them often enough to learn it.
SPOKEN_HOURS = {"am": range(6, 12), "pm": range(17, 22), "words": range(6, 12)}
AS_SPAN = 0.4  # share of durations that are said as a part of an hour


def each(draws: Mapping[str, Callable[[Random], Said]]) -> Callable[[Random], Slots]:
    """Slots that do not depend on one another."""
    return lambda rng: {name: draw(rng) for name, draw in draws.items()}


def one_of(words: Sequence[str]) -> Callable[[Random], Said]:
    """A word that the command repeats as it was said."""
    return lambda rng: copied(rng.choice(words))


def copied(word: str) -> Said:
    return Said(word, word)


def spelled(number: int) -> str:
    """21 -> twenty-one, for 0 to 99."""
    if number < len(ONES):
        return ONES[number]
    ones = f"-{ONES[number % 10]}" if number % 10 else ""
    return TENS[number // 10 - 2] + ones


def amount(numbers: Sequence[int], forms: Sequence[str]) -> Callable[[Random], Said]:
    """A number in one of the `forms`, which hold "{}"; digits, or words in the first form."""

    def draw(rng: Random) -> Said:
        number = rng.choice(numbers)
        if number < 100 and rng.random() < IN_WORDS:
            return Said(number, forms[0].format(spelled(number)))
        return Said(number, rng.choice(forms).format(number))

    return draw


def digits(numbers: Sequence[int], form: str) -> Callable[[Random], Said]:
    """A number in digits inside of a `form`, which holds "{}"."""

    def draw(rng: Random) -> Said:
        number = rng.choice(numbers)
        return Said(number, form.format(number))

    return draw


def minutes(rng: Random) -> Said:
    if rng.random() < AS_SPAN:
        return Said(*rng.choice(SPANS))
    return amount(range(2, 60), ["{} minutes"])(rng)


def minutes_zh(rng: Random) -> Said:
    if rng.random() < AS_SPAN:
        return Said(*rng.choice(SPANS_ZH))
    return digits(range(2, 60), "{}分鐘")(rng)


def day(rng: Random) -> Said:
    name = rng.choice([*DAYS, "tomorrow", "tomorrow"])
    return Said(name, name if name == "tomorrow" else f"on {name}")


def clock(rng: Random) -> Said:
    """06:00 to 21:55 in steps of five minutes, with 24 hours, or some of them in other words."""
    form = rng.choices(["24", "am", "pm", "words"], [30, 15, 30, 25])[0]
    if form == "24":
        return copied(hhmm(rng.randrange(6, 22), rng.randrange(0, 60, 5)))
    hour = rng.choice(SPOKEN_HOURS[form])
    if form == "words":
        minute = rng.choice([0, 15, 30])
        return Said(hhmm(hour, minute), in_words(hour, minute))
    minute = rng.choice([0, 30])
    return Said(hhmm(hour, minute), with_half(hour, minute))


def hhmm(hour: int, minute: int) -> str:
    return f"{hour:02d}:{minute:02d}"


def with_half(hour: int, minute: int) -> str:
    """19:05 -> 7:05 pm, 19:00 -> 7 pm"""
    past = f":{minute:02d}" if minute else ""
    return f"{(hour - 1) % 12 + 1}{past} {'am' if hour < 12 else 'pm'}"


def in_words(hour: int, minute: int) -> str:
    """07:30 -> half past seven in the morning"""
    form = {0: "{} o'clock", 15: "a quarter past {}", 30: "half past {}"}[minute]
    return form.format(spelled(hour)) + " in the morning"


def clock_zh(rng: Random) -> Said:
    """24 hours, or a morning hour with its part of the day."""
    if rng.random() < 0.5:
        return copied(hhmm(rng.randrange(6, 22), rng.randrange(0, 60, 5)))
    hour, (minute, past) = rng.randrange(6, 12), rng.choice([(0, ""), (30, "半"), (15, "15分"), (45, "45分")])
    return Said(hhmm(hour, minute), f"早上{hour}點{past}")


def some(text: str, separator: str = ",") -> tuple[str, ...]:
    """The words of a list written in one string."""
    return tuple(word.strip() for word in text.split(separator))


NAMES = some(
    "Anna, Ben, Carlos, Dina, Emeka, Fatima, George, Hana, Ivan, Julia, Kofi, Lena, Marco, Nadia, Oscar, Priya, Quinn, "
    "Rosa, Samuel, Tara, Umar, Vera, Wendy, Xavier, Yusuf, Zoe, Mum, Dad, Grandma, Uncle Tom, Aunt Mei, Dr Patel, "
    "Mr Chen, Mrs Novak, Ms Lopez, Coach Diaz"
)
ROOMS = some(
    "kitchen, bedroom, living room, bathroom, study, hallway, garage, attic, dining room, nursery, guest room, "
    "balcony, basement, office, laundry room, workshop"
)
ROOMS_ZH = some("客廳, 廚房, 臥室, 書房, 浴室, 陽台")
