"""What a person wrote -> what a model reads, and back. The only file that knows a modality.

Text: the tokenizer's own chat template, and nothing else, decides how turns are rendered; it is saved beside the
adapter, so training and serving cannot differ. Which tokens the assistant has to answer for is found by rendering
the conversation up to each turn, so templates need no generation marks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from tuneful.core.errors import DataError
from tuneful.core.types import Encoded, Message
from tuneful.models.prompts import Prompts, write_prompts

# For tokenizers that bring no template (base models): the turns as they are, and a stop token after each answer.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and bos_token %}{{ bos_token }}{% endif %}"
    "{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% if not loop.last or add_generation_prompt %}{{ '\n' }}{% endif %}"
    "{% endfor %}"
)
ENDLESS = 1 << 20  # tokenizers without a limit report numbers like 1e30
FALLBACK_TOKENS = 2048
SAID = "said-before-7f3a91c6"  # stands for an answer whose surroundings are wanted


@dataclass(frozen=True, slots=True)
class TextProcessor:
    """A tokenizer, its template, its stop tokens and its limit."""

    tokenizer: Any
    stop_ids: frozenset[int]
    max_tokens: int
    pad_id: int
    brought_template: bool  # False: PLAIN_TEMPLATE stands in
    prompts: Prompts = field(default_factory=Prompts)  # what a sentence encoder wants before a text

    @staticmethod
    def of(
        tokenizer: Any, generation: Mapping[str, Any], config: Mapping[str, Any], *, writes: bool = True
    ) -> TextProcessor:
        """`generation` and `config` are the model's own JSON files; `writes` asks for a template in any case."""
        brought = bool(tokenizer.chat_template)
        # A reader's tokenizer stays without: others take one with a template for a chat model.
        if writes and not brought:
            tokenizer.chat_template = PLAIN_TEMPLATE
        stops = {
            *_ids(generation.get("eos_token_id", config.get("eos_token_id"))),
            *_ids(tokenizer.eos_token_id),
        }
        positions = [config.get(name) for name in ("max_position_embeddings", "n_positions", "max_seq_len")]
        limits = [limit for limit in [tokenizer.model_max_length, *positions] if limit and limit < ENDLESS]
        pads = [*_ids(tokenizer.pad_token_id), *_ids(config.get("pad_token_id")), *sorted(stops), 0]
        return TextProcessor(tokenizer, frozenset(stops), min(limits, default=FALLBACK_TOKENS), pads[0], brought)

    @property
    def converses(self) -> bool:
        """It has a template for conversations; a reader's tokenizer has none."""
        return bool(self.tokenizer.chat_template)

    def render(self, messages: Sequence[Message], *, prompt: bool, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The text of a conversation; `prompt` ends it where the assistant is to answer."""
        turns = [message.template() for message in messages]
        if not self._knows("tool_calls"):
            turns = [_calls_as_text(turn) for turn in turns]
        if tools and not self._knows("tools"):
            turns, tools = _tools_as_text(turns, tools), ()
        try:
            rendered: str = self.tokenizer.apply_chat_template(
                turns,
                tools=[dict(tool) for tool in tools] or None,
                add_generation_prompt=prompt,
                tokenize=False,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise DataError(f"the model's chat template refuses this conversation: {error}") from None
        return rendered

    def conversation(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[Encoded]:
        """One encoded text; several when the template rewrites earlier turns, each then as it will be served."""
        whole = self.render(messages, prompt=False, tools=tools)
        spans, rewritten = [], False
        for index, message in enumerate(messages):
            if message.learned:
                start, end = self._turn(messages, index, tools)
                rewritten |= not whole.startswith(self.render(messages[: index + 1], prompt=False, tools=tools)[:end])
                spans.append((start, end))
        if not rewritten:
            return [self._encode(whole, spans)]
        turns = [index for index, message in enumerate(messages) if message.learned]
        return [
            self._encode(self.render(messages[: index + 1], prompt=False, tools=tools), [span])
            for index, span in zip(turns, spans, strict=True)
        ]

    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> Encoded:
        """What a generator is given before it answers."""
        return self._encode(self.render(messages, prompt=True, tools=tools), [])

    def behind(self, messages: Sequence[Message], place: int, tools: Sequence[Mapping[str, Any]] = ()) -> np.ndarray:
        """The ids of what follows the words of turn `place`, which the assistant says, up to where it is to answer
        again; they begin with what ends that turn. Raises DataError."""
        said = [*messages[:place], Message("assistant", SAID), *messages[place + 1 :]]
        text = self.render(said, prompt=True, tools=tools)
        if SAID not in text:
            raise DataError("the model's chat template does not show what the assistant said before")
        following = text[text.rindex(SAID) + len(SAID) :]
        return np.asarray(self.tokenizer(following, add_special_tokens=False)["input_ids"], dtype=np.int32)

    def text(self, text: str, second: str | None = None, *, limit: int) -> Encoded:
        """A text, or a pair, for a reader such as a classifier, cut to `limit` tokens the tokenizer's own way."""
        text = self.prompts.text + text
        given = self.tokenizer(text, second, return_offsets_mapping=True, truncation=True, max_length=limit)
        spans = np.asarray(given["offset_mapping"], dtype=np.int32).reshape(-1, 2)
        if second is not None:  # shown, the second text stands on a line of its own
            spans[[part == 1 for part in given.sequence_ids(0)]] += len(text) + 1
            text = f"{text}\n{second}"
        return _encoded(given["input_ids"], spans, text, learn=0.0)

    def pieces(self, text: str, *, limit: int) -> list[Encoded]:
        """A text for a reader that learns from it: every token but the special ones is learned. What is longer than
        `limit` tokens becomes several pieces."""
        return self._pieces(self.prompts.text + text, limit)

    def query(self, text: str, *, limit: int) -> tuple[Encoded, bool]:
        """What is to find a document, and whether it had to be cut; every token but the special ones is learned."""
        return _first(self._pieces((self.prompts.query or "") + text, limit))

    def document(self, text: str, *, limit: int) -> tuple[Encoded, bool]:
        """The same of what is to be found."""
        return _first(self._pieces((self.prompts.document or "") + text, limit))

    def _pieces(self, text: str, limit: int) -> list[Encoded]:
        given = self.tokenizer(
            text,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_overflowing_tokens=True,
            truncation=True,
            max_length=limit,
        )
        found = []
        for ids, spans, special in zip(
            given["input_ids"], given["offset_mapping"], given["special_tokens_mask"], strict=True
        ):
            encoded = _encoded(ids, spans, text, learn=1.0)
            encoded.learn[np.asarray(special, dtype=bool)] = 0.0
            found.append(encoded)
        return found

    def passage(self, text: str) -> Encoded:
        """A plain text to be learned from its first token to the stop token that ends it."""
        given = self.tokenizer(text, return_offsets_mapping=True)
        ids, spans = list(given["input_ids"]), list(given["offset_mapping"])
        if self.tokenizer.eos_token_id is not None and ids[-1:] != [self.tokenizer.eos_token_id]:
            ids.append(self.tokenizer.eos_token_id)
            spans.append((len(text), len(text)))
        encoded = _encoded(ids, spans, text, learn=1.0)
        encoded.learn[0] = 0.0  # nothing comes before the first token, so nothing predicts it
        return encoded

    @property
    def mask_id(self) -> int:
        """The token that stands for a hidden one. Raises DataError where there is none."""
        if self.tokenizer.mask_token_id is None:
            raise DataError("the model's tokenizer has no mask token, so nothing can be hidden from it")
        return int(self.tokenizer.mask_token_id)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def token(self, index: int) -> str:
        """One token as the tokenizer spells it."""
        return str(self.tokenizer.convert_ids_to_tokens(int(index)))

    def template(self) -> str:
        """The chat template that is used here and saved for serving."""
        return str(self.tokenizer.chat_template)

    def save(self, folder: str) -> None:
        self.tokenizer.save_pretrained(folder)
        write_prompts(Path(folder), self.prompts)

    def _knows(self, word: str) -> bool:
        return word in self.template()

    def _turn(self, messages: Sequence[Message], index: int, tools: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """Where turn `index` begins and ends in the rendering that stops with it."""
        upto = self.render(messages[: index + 1], prompt=False, tools=tools)
        opened = self.render(messages[:index], prompt=True, tools=tools) if index else ""
        if index and upto.startswith(opened):
            return len(opened), len(upto)
        # The template opens answers in some other way: the turn starts where its words do.
        closed = self.render(messages[:index], prompt=False, tools=tools) if index else ""
        begin = len(closed) if upto.startswith(closed) else 0
        words = _calls_as_text(messages[index].template())["content"].strip()
        found = upto.find(words, begin)
        if found < 0:
            raise DataError(f"the model's chat template does not show what turn {index + 1} says")
        return found, len(upto)

    def _encode(self, text: str, learned: Sequence[tuple[int, int]]) -> Encoded:
        given = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        encoded = _encoded(given["input_ids"], given["offset_mapping"], text, learn=0.0)
        if any(_cuts(encoded.spans, start) for start, _ in learned):
            encoded = self._encode_in_pieces(text, [start for start, _ in learned]) or encoded
        for start, end in learned:
            self._mark(encoded, start, end)
        return encoded

    def _encode_in_pieces(self, text: str, cuts: Sequence[int]) -> Encoded | None:
        """A token across the start of an answer would never be seen when serving: cut the text there."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            given = self.tokenizer(text[start:end], add_special_tokens=False, return_offsets_mapping=True)
            ids += given["input_ids"]
            spans += [(first + start, last + start) for first, last in given["offset_mapping"]]
        pieces = _encoded(ids, spans, text, learn=0.0)
        return pieces if self.tokenizer.decode(ids) == text else None

    def _mark(self, encoded: Encoded, start: int, end: int) -> None:
        """Learn the turn up to its stop token; what the template puts behind that is never generated."""
        inside = np.flatnonzero((encoded.spans[:, 0] >= start) & (encoded.spans[:, 1] <= end))
        stops = inside[np.isin(encoded.ids[inside], list(self.stop_ids))]
        if len(stops):
            inside = inside[inside <= stops[-1]]
        encoded.learn[inside] = 1.0


def _first(pieces: Sequence[Encoded]) -> tuple[Encoded, bool]:
    return pieces[0], len(pieces) > 1


def _encoded(ids: Sequence[int], spans: Sequence[tuple[int, int]] | np.ndarray, text: str, *, learn: float) -> Encoded:
    places = np.asarray(spans, dtype=np.int32).reshape(-1, 2)
    return Encoded(np.asarray(ids, dtype=np.int32), np.full(len(ids), learn, dtype=np.float32), text, places)


def _cuts(spans: np.ndarray, place: int) -> bool:
    return bool(((spans[:, 0] < place) & (spans[:, 1] > place)).any())


def _calls_as_text(turn: dict[str, Any]) -> dict[str, Any]:
    """For templates that would drop a call without a word: the call as JSON, where the answer stands."""
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in turn.get("tool_calls", ())]
    if not calls:
        return turn
    plain = {key: value for key, value in turn.items() if key != "tool_calls"}
    return {**plain, "content": "\n".join([part for part in (turn["content"],) if part] + calls)}


def _tools_as_text(turns: list[dict[str, Any]], tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For templates that would drop the tools: a list of them in the system message."""
    listed = "Tools:\n" + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    if turns and turns[0]["role"] == "system":
        return [{**turns[0], "content": f"{turns[0]['content']}\n\n{listed}"}, *turns[1:]]
    return [{"role": "system", "content": listed}, *turns]


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(item) for item in value] if isinstance(value, list | tuple) else [int(value)]
