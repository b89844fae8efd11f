"""One regular expression for very many words, whose time does not grow with their number."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

Node: TypeAlias = "dict[str, Node]"
END = ""
# However a person types them: "middle-aged" and "middle aged", "ma'am" and "ma’am".
WIDER = {" ": r"[\s-]", "-": r"[\s-]", "'": "['’]"}


def pattern(words: Iterable[str]) -> str:
    """Matches the longest of the words that stands at a place; common beginnings are read once."""
    root: Node = {}
    for word in words:
        node = root
        for letter in word:
            node = node.setdefault("-" if letter == " " else letter, {})
        node[END] = {}
    return _written(root)


def _written(node: Node) -> str:
    branches = [WIDER.get(letter, re.escape(letter)) + _written(rest) for letter, rest in node.items() if letter != END]
    if not branches:
        return ""
    joined = branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"
    return f"(?:{joined})?" if END in node else joined
