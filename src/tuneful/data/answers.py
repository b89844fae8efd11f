"""Which answers that a model wrote are answers: of the form that people's answers have, no refusal, no echo."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuneful.data.duplicates import normal

NUMBER = re.compile(r"[-+−]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")
FENCE = "```"
UNREADABLE = (ValueError, RecursionError)  # what json.loads raises, the latter for brackets in brackets without end
ECHO = 0.8  # share of a request that its answer may repeat, with hardly anything else, before it is an echo
# Only how an answer begins: what it speaks of later may be the very thing that was asked for. "As an AI researcher, I"
# is no refusal, nor is "I cannot swim".
REFUSALS = re.compile(
    r"""\W*(?:
    (?:i['’]?m\ (?:\w+\ )?sorry|i\ am\ (?:\w+\ )?sorry|sorry|i\ apologi[sz]e|unfortunately)\W[^.!?\n]{0,40}?
        \bi(?:['’]m|\ am)?\ (?:can['’]?t|cannot|can\ not|unable|not\ able
            |(?:don['’]?t|do\ not)\ (?:have\ (?:access|the\ ability|information|enough|personal)|feel\ comfortable))\b
            (?!\ help\ but\b)
    |as\ an?\ (?:ai|artificial\ intelligence|(?:large\ )?language\ model)
        (?:\ (?:language\ )?(?:model|assistant|chatbot))?\s*,
    |i(?:['’]m|\ am)?\ (?:can['’]?t|cannot|can\ not|unable\ to|not\ able\ to)
        \ (?:help(?!\ but\b)|assist|provide|fulfil|comply|answer|complete|generate|engage|access|browse|process
            |do\ that)
    |(?:抱歉|很抱歉|對不起|对不起|不好意思)[，,。！!\s]*(?:但|但是)?\s*(?:我|作為|作为)?[^。！？\n]{0,12}?(?:無法|无法|不能|沒辦法|没办法)
    |(?:作為|作为|身為|身为)(?:一個|一个|一名|一位)?\s*(?:ai|人工智慧|人工智能|(?:大型)?語言模型|(?:大型)?语言模型)
        (?:助手|助理|模型|語言模型|语言模型)?\s*[，,]
    |我(?:無法|无法|不能)(?:提供|協助|协助|幫|帮|回答|完成)
    |(?:es\ tut\ mir\ leid|tut\ mir\ leid|entschuldigung)\W[^.!?\n]{0,40}?\bkann\b[^.!?\n]{0,40}?\bnicht
    |(?:je\ suis\ désolée?|désolée?)\W[^.!?\n]{0,40}?\bje\ ne\ peux\ pas
    |lo\ siento\W[^.!?\n]{0,40}?\bno\ puedo
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def refuses(answer: str) -> bool:
    """It begins as models begin when they refuse, in English, Chinese, German, French or Spanish."""
    return REFUSALS.match(answer) is not None


def echoes(asked: str, answer: str) -> bool:
    """It says the request again and hardly anything else."""
    one, other = normal(asked), normal(answer)
    return (
        one == other
        or (other in one and len(other) >= ECHO * len(one))
        or (one in other and len(one) >= ECHO * len(other))
    )


@dataclass(frozen=True, slots=True)
class Form:
    """What all of people's answers are, so that a machine can check others: numbers, or JSON of the same shapes."""

    kind: str  # "number", "json", "" where nothing can be checked
    shapes: frozenset[object] = frozenset()  # of JSON: the sets of keys of objects, else the names of types

    @classmethod
    def of(cls, answers: Sequence[str]) -> Form:
        if answers and all(NUMBER.fullmatch(answer.strip()) for answer in answers):
            return cls("number")
        try:
            shapes = frozenset(_shape(json.loads(answer)) for answer in answers)
        except UNREADABLE:
            return cls("")
        return cls("json", shapes) if shapes else cls("")

    def plain(self, answer: str) -> str:
        """Without the fence that models put around JSON."""
        plain = answer.strip()
        head, _, rest = plain.partition("\n")
        fenced = self.kind == "json" and head.startswith(FENCE) and rest.endswith(FENCE)
        named = head.removeprefix(FENCE).strip()
        return rest.removesuffix(FENCE).strip() if fenced and (not named or named.isalnum()) else plain

    def fits(self, answer: str) -> bool:
        if self.kind == "number":
            return NUMBER.fullmatch(answer.strip()) is not None
        try:
            return self.kind == "" or _shape(json.loads(answer)) in self.shapes
        except UNREADABLE:
            return False


def _shape(value: Any) -> object:
    return frozenset(value) if isinstance(value, dict) else type(value).__name__
