"""The contracts between rooms. A component keeps one of these and knows nothing else of the project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from tuneful.core.policy import Policy
    from tuneful.core.types import Answer, Batch, Boundary, Completion, Encoded, Layout, Message, Row, Step, Terms
    from tuneful.core.vocabulary import Vocabulary


class Processor(Protocol):
    """Turns what a person wrote into what a model reads, and back."""

    @property
    def stop_ids(self) -> frozenset[int]: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def converses(self) -> bool: ...  # it has a template for conversations
    def conversation(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Encoded]: ...
    def prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Encoded: ...
    def text(self, text: str, second: str | None = None, *, limit: int) -> Encoded: ...
    def passage(self, text: str) -> Encoded: ...
    def pieces(self, text: str, *, limit: int) -> list[Encoded]: ...
    def query(self, text: str, *, limit: int) -> tuple[Encoded, bool]: ...  # and whether it had to be cut
    def document(self, text: str, *, limit: int) -> tuple[Encoded, bool]: ...
    def decode(self, ids: Sequence[int]) -> str: ...
    def token(self, index: int) -> str: ...
    def template(self) -> str: ...


class Network(Protocol):
    """What the models room knows about one architecture; weights belong to the module that is passed in."""

    @property
    def causal(self) -> bool: ...
    @property
    def shares(self) -> bool: ...  # rows may share prefixes
    def hidden(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor: ...  # (N, D)
    def vocabulary(self, module: nn.Module) -> Vocabulary: ...
    def class_logits(self, module: nn.Module, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor: ...  # (R, C)
    def embeddings(self, hidden: Tensor, inputs: Mapping[str, Tensor]) -> Tensor: ...  # (R, D)
    def rebuilt(
        self, module: nn.Module, vectors: Tensor, embedded: Tensor, rows: Tensor, shown: Tensor
    ) -> Tensor: ...  # (M, D)
    def natively(self, module: nn.Module) -> AbstractContextManager[None]: ...  # padded rows and key-value caches


class Learning(Protocol):
    """A module some of whose weights learn."""

    @property
    def module(self) -> nn.Module: ...
    def trainable(self) -> dict[str, nn.Parameter]: ...
    def state(self) -> dict[str, Tensor]: ...
    def load(self, state: Mapping[str, Tensor]) -> None: ...


class Attached(Learning, Protocol):
    """An adapter at work on one module."""

    def original(self) -> AbstractContextManager[nn.Module]: ...  # the module as it was before tuning
    def distance(self) -> Tensor: ...  # () sum of squares of what changed in the weights there were before
    def nearer(self, share: float) -> None: ...  # keeps this share of that change
    def sloped(self) -> AbstractContextManager[dict[str, nn.Parameter]]: ...  # whole weights; inside, passes reach them
    def pull(self, since: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor: ...

    # ^ () sum of `weights`, by the names of `sloped`, times the squares of what changed there since that `state()`

    def merged(self) -> nn.Module: ...  # a plain fp32 transformers model of its own, adapters folded in
    def save(self, folder: str, weights: Mapping[str, Tensor] | None = None) -> None: ...

    # ^ what is needed beside the base model; `weights` stand for `state()` where that is spread over ranks


@runtime_checkable
class Routed(Protocol):
    """Optional, of an adapter at work that is several, one for each task."""

    @property
    def tasks(self) -> Sequence[str]: ...
    def routed(
        self, inputs: Mapping[str, Tensor]
    ) -> AbstractContextManager[None]: ...  # these say whose tokens are whose
    def of_task(self, task: str) -> AbstractContextManager[None]: ...  # all tokens are, if nobody says


class Adapter(Protocol):
    """Which weights learn, and how."""

    freezes: ClassVar[bool]  # most weights never change, so they may be kept in a short format

    def rate(self, width: int) -> float: ...  # the learning rate that suits a model of this width
    def attach(self, module: nn.Module, *, labels: bool) -> Attached: ...


class Objective(Protocol):
    """How wrong each unit is. Never reduces, never steps."""

    layout: ClassVar[Layout]

    def __call__(self, policy: Policy, batch: Batch) -> Terms: ...


class Regulariser(Protocol):
    """A scalar that joins the loss once per step, strength included."""

    def __call__(self, policy: Policy, batch: Batch, terms: Terms) -> Tensor: ...


class Schedule(Protocol):
    """What is learned next."""

    def steps(self, policy: Policy, start: int = 0) -> Iterator[Step | Boundary]: ...


class GradientRule(Protocol):
    """How gradients of several tasks become one."""

    def add(self, task: str, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None: ...
    def finish(self, parameters: Sequence[nn.Parameter]) -> None: ...
    def restart(self, parameters: Sequence[nn.Parameter]) -> None: ...  # the step begins again: forget what was added


class Sampler(Protocol):
    """Answers to prompts, prompts as token ids."""

    def sample(
        self,
        policy: Policy,
        prompts: Sequence[np.ndarray],
        *,
        limit: int,
        temperature: float = 0.0,
        seed: int = 0,
        original: bool = False,
        stops: Sequence[str] = (),
    ) -> list[Completion]: ...


class Metric(Protocol):
    """One number for many rows; higher_is_better says how to read it."""

    higher_is_better: ClassVar[bool]

    def __call__(self, truth: Sequence[Any], predicted: Sequence[Any], **per_row: Any) -> float: ...


class Augmentation(Protocol):
    """Another way of saying the same, for rows that are learned."""

    modality: ClassVar[str]  # of what it changes: "text"

    @property
    def kind(self) -> str: ...
    @property
    def share(self) -> float: ...  # of a row's visits, those in which it is changed so
    def over(self, texts: Sequence[str]) -> Callable[[str, np.random.Generator], str]: ...  # `texts` are the rows'


class Vary(Protocol):
    """A row as it is at one visit, a function of the row and the key of the visit alone."""

    def __call__(self, row: Row, key: Sequence[int]) -> Row: ...


@runtime_checkable
class Climbs(Protocol):
    """Optional, of a gradient rule that looks elsewhere before it says where to go: an update is computed twice."""

    def climb(self, parameters: Sequence[nn.Parameter]) -> list[Tensor]: ...  # moves them; what they were
    def back(self, parameters: Sequence[nn.Parameter], before: Sequence[Tensor]) -> None: ...


@runtime_checkable
class KeepsGradients(Protocol):
    """Optional, of a gradient rule that keeps gradients beside `.grad` until `finish`: what is summed over the ranks
    before that, with zeros where there is nothing, so that all ranks give the same shapes in the same order."""

    def kept(self, tasks: Sequence[str], parameters: Sequence[nn.Parameter]) -> Sequence[Tensor]: ...


@runtime_checkable
class Starts(Protocol):
    """Optional, of a gradient rule that keeps something from batch to batch: what is at work in one run, of which so
    many updates are done."""

    def at_work(self, done: int) -> GradientRule: ...


@runtime_checkable
class Measures(Protocol):
    """Optional, of a gradient rule: what it measured of the last update, by name. It joins the record's metrics."""

    def measured(self) -> Mapping[str, float]: ...


@runtime_checkable
class Pools(Protocol):
    """Optional, of an objective with labels: what the class head reads, "own" or "mean" (see `models.sentence`)."""

    @property
    def pooling(self) -> str: ...
    @property
    def label_names(self) -> bool: ...


@runtime_checkable
class Draws(Protocol):
    """Optional, of a schedule that draws rows by their class: how many of these it puts in a step."""

    def drawn(self, rows: Sequence[Row]) -> int: ...


@runtime_checkable
class LearnsTasks(Protocol):
    """Optional, of a schedule that learns several tasks."""

    several: ClassVar[Literal["together", "in turn"]]


@runtime_checkable
class Suits(Protocol):
    """Optional, of a regulariser: the kinds of answers it means something for."""

    suits: ClassVar[frozenset[Answer]]


@runtime_checkable
class Replaces(Protocol):
    """Optional, of a regulariser that puts another loss in the place of the objective's: one of them a run."""

    replaces: ClassVar[bool]


@runtime_checkable
class ComparesGroups(Protocol):
    """Optional, of a regulariser that compares sensitive groups within a batch, or groups of one class."""

    @property
    def kind(self) -> str: ...
    @property
    def least(self) -> int: ...  # rows of each group (and class) that a batch needs
    @property
    def by_label(self) -> bool: ...  # groups of one class are compared


@runtime_checkable
class ChangesTogether(Protocol):
    """An augmentation that changes what is asked and what is learned of it alike."""

    def together(self, texts: Sequence[str], rng: np.random.Generator) -> Sequence[str]:
        """All texts of one example; as they are where there is nothing to change."""
        ...


@runtime_checkable
class ComparesTwins(Protocol):
    """Optional, of a regulariser that compares a row with the same about another group."""

    @property
    def axes(self) -> Sequence[str] | None: ...  # along which groups are exchanged; None: all that are known
    @property
    def across(self) -> bool: ...  # one of another axis may stand for a group


@runtime_checkable
class Objects(Protocol):
    """Optional, of a regulariser or gradient rule: what stands against using it on this model, in words; asked once,
    before anything is learned."""

    def problems(self, policy: Policy) -> list[str]: ...


@runtime_checkable
class Disturbs(Protocol):
    """Optional, of a regulariser that changes what the model reads while it learns."""

    def during(self, policy: Policy, batch: Batch) -> AbstractContextManager[None]: ...  # around the passes of a batch


@runtime_checkable
class Begins(Protocol):
    """Optional, of a regulariser that keeps something from update to update: what is at work in one run."""

    def begin(self, counts_GC: np.ndarray) -> Regulariser: ...  # training rows of each class of each group


@runtime_checkable
class Advances(Protocol):
    """Optional, of a regulariser at work: told, once, that an update was made."""

    def advance(self) -> None: ...
    def restart(self) -> None: ...  # the update is computed once more from its beginning; what was heard of it is void


@runtime_checkable
class MeasuresWeights(Protocol):
    """Optional, of a regulariser that reads whole weights, which ranks that share them out do not have."""

    measures_weights: ClassVar[bool]


@runtime_checkable
class InTurn(Protocol):
    """Optional, of a regulariser that is about earlier tasks, so these must be learned one after the other."""

    in_turn: ClassVar[bool]


@runtime_checkable
class WeighsTasks(Protocol):
    """Optional, of a regulariser that is about several tasks, which must then be learned together and read apart."""

    weighs: ClassVar[bool]


@runtime_checkable
class Consolidates(Protocol):
    """Optional: told when a task ends, and before the first update where tasks were learned in an earlier run."""

    def consolidate(self, policy: Policy, boundary: Boundary) -> None: ...


@runtime_checkable
class Stateful(Protocol):
    """Optional: what a resume needs."""

    def state(self) -> Mapping[str, Any]: ...
    def load(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class KeepsTensors(Protocol):
    """Optional, beside `Stateful`, of a regulariser at work: what a resume needs of numbers, by name."""

    def tensors(self) -> Mapping[str, Tensor]: ...
    def restore(self, policy: Policy, tensors: Mapping[str, Tensor]) -> None: ...


@runtime_checkable
class Recalls(Protocol):
    """Optional, of a regulariser at work: numbers that a run keeps when it has ended, and no row, so that the one that
    goes on from it need not find them anew. They stand instead of `consolidate` there."""

    @property
    def kind(self) -> str: ...
    def kept(self) -> Mapping[str, Tensor]: ...  # by the names of `Attached.sloped`; empty: nothing
    def recall(self, policy: Policy, kept: Mapping[str, Tensor]) -> None: ...
