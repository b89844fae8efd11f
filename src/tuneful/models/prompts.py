"""What a sentence encoder wants before a text, as sentence-transformers keeps it in a model's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FILE = "config_sentence_transformers.json"
QUERY, DOCUMENTS = "query", ("document", "passage", "corpus")  # the library's names, its own choice first
PARTNERS = {"query: ": "passage: "}  # of E5 (Wang et al. 2022, arXiv:2212.03533, section 4.1)


@dataclass(frozen=True, slots=True)
class Prompts:
    """`text` stands before any text; `query` and `document` where the two are told apart, None where they are not."""

    text: str = ""
    query: str | None = None
    document: str | None = None

    def told_apart(self) -> Prompts:
        """The same for a model that finds documents: what is not said of the two follows from what stands before any
        text."""
        query = self.text if self.query is None else self.query
        return Prompts(self.text, query, PARTNERS.get(query, self.text) if self.document is None else self.document)


def prompts_in(folder: Path) -> Prompts:
    """What sentence-transformers would put before texts with the model in this folder."""
    file = folder / FILE
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    named = found.get("prompts") or {}
    document = next((named[name] for name in DOCUMENTS if name in named), None)
    return Prompts(str(named.get(found.get("default_prompt_name") or "") or ""), named.get(QUERY), document)


def write_prompts(folder: Path, prompts: Prompts) -> None:
    """Nothing where there is nothing to say."""
    named = {"text": prompts.text or None, QUERY: prompts.query, DOCUMENTS[0]: prompts.document}
    known = {name: value for name, value in named.items() if value is not None}
    if known:
        found = {"prompts": known, "default_prompt_name": "text" if prompts.text else None}
        (folder / FILE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
