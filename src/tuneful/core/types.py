"""The nouns: what flows from a file of data to an update of the weights and on to the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from tuneful.core.policy import Outputs
    from tuneful.core.protocols import Objective


MEMORY = "(memory)"  # the task of batches whose rows come back from earlier tasks
OWN_TEXT = "(own text)"  # the task of batches that hold what the untuned model wrote
FORGOTTEN = "(forgotten)"  # how the name of a task begins whose rows are to be unlearned


class Layout(StrEnum):
    """What one unit of an objective is, and so how rows become batches."""

    TOKENS = "tokens"  # one loss per learned token, told by what stands before it
    MASKED = "masked"  # one loss per learned token, told by what stands around it
    TEXTS = "texts"  # one loss per row, which needs no label
    REBUILT = "rebuilt"  # the same, told by what the row's own vector keeps of it
    LABELS = "labels"  # one loss per row
    CLASSES = "classes"  # one loss per row, told by the other rows of its class
    PAIRS = "pairs"  # one loss per row, which holds several texts: a query, its document, others that are not
    PREFERENCES = "preferences"  # one loss per row, which holds a prompt with two answers: chosen, rejected
    JUDGED = "judged"  # one loss per row: an answer that is wanted or not, told by rows read with it
    REWARDS = "rewards"  # one loss per row, which holds a prompt with two answers, each told by one number
    ROLLOUTS = "rollouts"  # one loss per token that the model wrote itself, told by the reward of its answer

    @property
    def writes(self) -> bool:
        """The model writes text; otherwise it reads."""
        return self is Layout.TOKENS or self.prefers or self.plays

    @property
    def plays(self) -> bool:
        """The model learns from what it writes itself."""
        return self is Layout.ROLLOUTS

    @property
    def prefers(self) -> bool:
        """Whole answers are made likelier or less likely than they were."""
        return self in (Layout.PREFERENCES, Layout.JUDGED)

    @property
    def rates(self) -> bool:
        """Whole answers get a number, by a head over a model that may write or read."""
        return self is Layout.REWARDS

    @property
    def alone(self) -> bool:
        """An encoder learns from texts and nothing else."""
        return self in (Layout.MASKED, Layout.TEXTS, Layout.REBUILT)

    @property
    def labelled(self) -> bool:
        """Every row has a label."""
        return self in (Layout.LABELS, Layout.CLASSES)

    @property
    def vectors(self) -> bool:
        """What is learned is where rows lie, with no head over their vectors."""
        return self in (Layout.TEXTS, Layout.CLASSES, Layout.PAIRS, Layout.REBUILT)

    @property
    def compares(self) -> bool:
        """Rows read together are told apart, so how an update is cut is part of the objective."""
        return self in (Layout.TEXTS, Layout.CLASSES, Layout.PAIRS, Layout.JUDGED)


class Answer(StrEnum):
    """What is told of a unit, which decides what it means to be unsure, or wrong by how much."""

    TOKENS = "tokens"  # one of the vocabulary
    CLASS = "class"  # one of several
    LABELS = "labels"  # any of several, each for itself
    NUMBER = "number"
    CHOICE = "choice"  # which of two answers is better, or whether one is wanted
    OWN = "own"  # one of the vocabulary, which the model drew itself
    NONE = "none"  # rows are told apart


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row came from, for messages: `source` as the person wrote it, `row` as their editor counts it."""

    source: str
    row: int
    unit: str = "row"

    def __str__(self) -> str:
        return f"{self.source} {self.unit} {self.row}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `train` None means: learned if the assistant says it."""

    role: str
    content: str
    train: bool | None = None
    name: str | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()

    @property
    def learned(self) -> bool:
        return self.role == "assistant" if self.train is None else self.train

    def template(self) -> dict[str, Any]:
        """The mapping that chat templates read."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.name:
            turn["name"] = self.name
        if self.tool_calls:
            turn["tool_calls"] = [dict(call) for call in self.tool_calls]
        return turn


@dataclass(frozen=True, slots=True)
class Example:
    """One item of data as a person gave it, with the field names of its layout already understood.

    Conversations fill `messages`; plain text fills `text`; labelled data fills `text` (and `second`) and
    `label`; preferences fill `messages` (the prompt), `chosen` and `rejected`; what is to be found fills `text` (the
    query), `positive` (a document that is right) and `negatives` (some that are not).
    """

    place: Place
    messages: tuple[Message, ...] = ()
    text: str | None = None
    second: str | None = None
    label: Any = None
    chosen: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()
    positive: str | None = None
    negatives: tuple[str, ...] = ()
    rewards: Mapping[str, float] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    group: str | None = None
    cluster: str | None = None  # rows of one cluster stay on one side of a split
    task: str = ""  # whose it is, where several are learned
    shown: tuple[str, ...] = ()  # texts that whoever wrote this one was shown
    judged: frozenset[str] = frozenset()  # marks of the texts that whoever picked this one knew


@dataclass(frozen=True, slots=True)
class Dropped:
    """A row that will not be learned, and why, in words that name the remedy."""

    place: Place
    reason: str


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence for people, as its key in the word lists and the facts it holds, so that every language can say it."""

    key: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Encoded:
    """A rendered text as tokens. `learn[t]` weighs the prediction of token t; 0 = not learned."""

    ids: np.ndarray  # (T,) int32
    learn: np.ndarray  # (T,) float32
    text: str
    spans: np.ndarray  # (T, 2) int32, characters of `text`


@dataclass(frozen=True, slots=True)
class Row:
    """What the model reads of one example, and what it should answer."""

    example: Example
    ids: np.ndarray  # (T,) int32
    learn: np.ndarray  # (T,) float32, see Encoded
    target: Any = None  # class index, (C,) floats, or a float; None for token layouts
    prompt: int = 0  # how many leading ids a generator is given before it must answer
    lengths: tuple[int, ...] = ()  # of the texts that `ids` hold one behind the other; empty: they are one text
    weight: float = 1.0  # how much its label counts, beside those of other rows
    times: float = 1.0  # how often it is drawn, beside other rows
    twin: Row | None = None  # the same about another group: read in the same batch, and not learned

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def texts(self) -> list[np.ndarray]:
        """The ids of each text."""
        return [self.ids[part] for part in self.parts]

    @property
    def parts(self) -> list[slice]:
        """Where in `ids` each text lies."""
        ends = list(accumulate(self.lengths or (len(self.ids),)))
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def longest(self) -> int:
        """Tokens of its longest text."""
        return max(self.lengths or (len(self.ids),))

    @property
    def learned(self) -> int:
        """How many tokens of this row are learned."""
        return int((self.learn > 0).sum())

    @property
    def counts(self) -> bool:
        """Something of it can be learned as it stands: tokens, a target, or texts that belong together."""
        return self.target is not None or bool(self.lengths) or bool(self.learned)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Rows read from disk for one step, and what was passed over because it cannot be learned."""

    rows: list[Row]
    skipped: list[Dropped]


@dataclass(frozen=True, slots=True)
class Share:
    """What of a batch is one task's."""

    task: str
    units: slice  # which of the batch's
    counted: float  # the denominator they add


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch. Only the model reads `inputs`, only the objective reads `targets`."""

    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    weights: Tensor  # (U,) how much each unit counts; 0 = not at all
    units: float  # the denominator this batch adds: tokens, pairs or sequences
    tokens: int  # the model reads, a shared prefix once
    task: str = "main"
    groups: Tensor | None = None  # (rows,) sensitive-group ids, -1 unknown
    classes: slice | None = None  # of the class head, those that are told apart here, labels counted from its start
    beside: tuple[Share, ...] = ()  # of several tasks that are read together and learned each for itself, every one's

    @property
    def shares(self) -> tuple[Share, ...]:
        """Whose units these are."""
        return self.beside or (Share(self.task, slice(None), self.units),)

    def silent(self) -> Batch:
        """The same, of which nothing counts: for a rank that has no part of its own in what all do together."""
        beside = tuple(replace(share, counted=0.0) for share in self.beside)
        return replace(self, weights=self.weights * 0, units=0.0, tokens=0, beside=beside)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an objective says of one batch: one loss per unit, NOT reduced."""

    losses: Tensor  # shape of batch.weights
    outputs: Outputs
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser update, cut in micro-batches."""

    batches: Sequence[Batch]  # of this rank, where several learn together
    rows: int = 0  # of all ranks
    tokens: int = 0  # real tokens of the rows of all ranks, counted before any sharing
    skipped: Sequence[Dropped] = ()  # rows that others stand in for, each named once a run
    smaller: Callable[[], Step | None] = lambda: None  # the same update in smaller batches; None: there are none
    metrics: Mapping[str, float] = field(default_factory=dict)  # what whoever made it measured, for the record


@dataclass(frozen=True, slots=True)
class Boundary:
    """A task ended: consolidate, evaluate."""

    task: str
    batches: Sequence[Batch] = ()  # of training rows, one row each, by lot; each is made when it is asked for
    classes: int | None = None  # so many of the head are known now, the first ones; None: answers are not classes
    objective: Objective | None = None  # of the task, which the engine adds


@dataclass(frozen=True, slots=True)
class Record:
    """All that observers see of a run."""

    step: int
    kind: str  # "train", "validation", "boundary", "saved", "note"
    task: str = "main"
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled answer; `stopped` is False when the token limit cut it. Where a stop text ended it, `text` ends
    before that text, and `ids` are what was written."""

    ids: tuple[int, ...]
    text: str
    stopped: bool
    end: tuple[int, ...] = ()  # the token it ended with, which is none of the `ids`
    logprobs: tuple[float, ...] = ()  # of `ids` and `end` when they were drawn; empty where the likeliest were taken
