"""The same in other words, written by a model: asked directly, or for a translation there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from tuneful.core.spec import Spec
from tuneful.core.types import Message
from tuneful.data.augment.settings import KeepLabel, Kept, Share, Variants
from tuneful.data.synthesise import key_of, one_line

REWORD = (
    "Say the following in other words. Keep its meaning, its language, every number and every name. Answer with the "
    "new text alone.\n\n{text}"
)
TRANSLATE = "Translate the following into {language}. Answer with the translation alone.\n\n{text}"


class Rewords(Spec):
    """Who says a text in other words, and how."""

    model: str | None = None
    """Who writes: a model of the endpoint, or one on this computer. None: the embedded one."""
    endpoint: str | None = None
    """An address that speaks as OpenAI's chat completions do, such as http://localhost:8000/v1. None: this computer."""
    key_from: str | None = None
    """The environment variable that holds the endpoint's key."""
    temperature: NonNegativeFloat = 0.9
    """0 takes the likeliest words, which makes all variants of a text the same."""
    via: Annotated[str, Field(min_length=1)] | None = None
    """A language to translate into and back (Sennrich et al. 2016, arXiv:1511.06709), with two requests a variant.
    None: the text is put in other words directly."""
    language: Annotated[str, Field(min_length=1)] | None = None
    """What the texts are written in, for the way back of `via`. None: English."""

    @model_validator(mode="after")
    def _asks_somebody(self) -> Self:
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"endpoint {self.endpoint}: expected an address like http://localhost:8000/v1")
        if self.endpoint is not None and self.model is None:
            raise ValueError("endpoint: say which of its models is asked, with `model`")
        if self.key_from is not None and self.endpoint is None:
            raise ValueError("key_from: a model on this computer takes no key; name the endpoint, or leave it out")
        if self.language is not None and self.via is None:
            raise ValueError(
                "language: is for translations there and back; name the other one with `via`, or leave it out"
            )
        return self


class Paraphrase(Rewords):
    """What a model that writes makes of a text: several variants, asked for once, kept on this computer, and never
    asked for again."""

    modality: ClassVar[str] = "text"

    kind: Literal["paraphrase"] = "paraphrase"
    share: Share = 0.5
    variants: Variants = 3
    keep_label: Kept = KeepLabel()

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if not self.temperature and self.variants > 1:
            raise ValueError("temperature 0: all variants of a text would be the same; raise it, or set variants to 1")
        return self


@dataclass(frozen=True, slots=True)
class Rewording:
    """One question about one text; the `turn` tells the variants of it apart."""

    about: str
    messages: tuple[Message, ...]
    turn: int

    def key(self, model: str, temperature: float) -> str:
        return key_of(self, model, temperature)


def rewordings(texts: Sequence[str], variants: int, language: str | None = None) -> list[Rewording]:
    """So many requests for each text, for a translation where a language is named."""
    asked = REWORD if language is None else TRANSLATE
    return [
        Rewording(text, (Message("user", asked.format(text=text, language=language)),), turn)
        for text in texts
        for turn in range(variants)
    ]


def said(answer: str, *, cut: bool) -> str:
    """The text of an answer on one line, without quotation marks around it; "" where it was cut or is none."""
    text = one_line(answer)
    if len(text) > 1 and text[0] + text[-1] in ('""', "“”", "「」"):
        text = text[1:-1].strip()
    return "" if cut or not any(letter.isalpha() for letter in text) else text
