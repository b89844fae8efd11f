"""Words in another order, left out, or put in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from tuneful.core.spec import Spec
from tuneful.data.augment.pieces import drawn, free, is_cjk, is_fixed, pieces, words
from tuneful.data.augment.settings import KeepNames, OneOrMore, Share, Strength

STOCK = 10_000  # texts whose words are put in

Operation = Literal["swap", "delete", "insert"]
OPERATIONS: tuple[Operation, ...] = ("swap", "delete", "insert")


class Words(Spec):
    """Random swap, deletion and insertion of words (EDA, Wei and Zou 2019, arXiv:1901.11196, section 2); of Chinese
    text of characters.

    Differs from the paper: what is put in is a word of the text itself or of the training rows, as there is no
    thesaurus; a swap is one of neighbours; numbers, addresses and words such as 'not' stay where they are.
    """

    modality: ClassVar[str] = "text"

    kind: Literal["words"] = "words"
    strength: Strength = 0.1
    """Share of the words, or of the Chinese characters, at which something happens; one at least."""
    share: Share = 0.5
    operations: Annotated[tuple[Operation, ...], OneOrMore, Field(min_length=1)] = OPERATIONS
    """What happens: a `swap` with the next word, `delete`, or `insert` a word before it."""
    insert_from: Literal["text", "rows"] = "text"
    """Where a word that is put in comes from: the text itself, or all training rows."""
    keep_names: KeepNames = True

    def over(self, texts: Sequence[str]) -> Callable[[str, np.random.Generator], str]:
        """`texts` are those of the training rows."""
        stock = _stock(texts) if self.insert_from == "rows" else ()
        return lambda text, rng: rearranged(
            text, self.strength, rng, operations=self.operations, stock=stock, keep_names=self.keep_names
        )


def rearranged(
    text: str,
    strength: float,
    rng: np.random.Generator,
    *,
    operations: Sequence[Operation] = OPERATIONS,
    stock: Sequence[str] = (),
    keep_names: bool = True,
) -> str:
    """The text with one operation at this share of the words that may be moved; `stock` are words to put in, the text's
    own where it is empty. The last word is never left out."""
    parts = pieces(text)
    movable = free(parts, names=keep_names)
    own = [parts[place] for place in movable]
    left = len(parts) // 2
    for place in drawn(movable, strength, rng):
        operation = operations[int(rng.integers(len(operations)))]
        if operation == "insert":
            known = stock or own
            word = known[int(rng.integers(len(known)))]
            parts[place] = word + _between(word, parts[place]) + parts[place]
        elif operation == "delete" and left > 1:
            left -= 1
            parts[place] = ""
            beside = next((side for side in (place - 1, place + 1) if parts[side].isspace()), place)
            parts[beside] = ""  # one of the two spaces around it
        elif operation == "swap" and place + 2 in movable:
            parts[place], parts[place + 2] = parts[place + 2], parts[place]
    return "".join(parts).strip() if text == text.strip() else "".join(parts)


def _between(one: str, other: str) -> str:
    return "" if is_cjk(one) and is_cjk(other) else " "


def _stock(texts: Sequence[str]) -> list[str]:
    """Words as often as they stand in the texts, but for those that say another thing wherever they stand."""
    return [word for text in texts[:STOCK] for word in words(text) if not is_fixed(word) and not word[0].isupper()]
