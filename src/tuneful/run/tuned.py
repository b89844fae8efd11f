"""A finished run, or any model folder, in use: answers, labels, numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuneful.adapters.full import FinishedWeights
from tuneful.adapters.lowrank import attach_saved
from tuneful.core.device import pick_device, precision, prepare_process
from tuneful.core.errors import ModelError, RunFolderError
from tuneful.core.policy import Policy
from tuneful.core.protocols import Objective
from tuneful.core.quantised import Kind, check
from tuneful.core.types import Encoded, Example, Layout, Message, Place, Row
from tuneful.data.labels import PROBLEMS, LabelSet
from tuneful.data.layouts import Collator
from tuneful.evaluation.heads import vectors
from tuneful.evaluation.readers import named, predictions
from tuneful.evaluation.reading import class_logits
from tuneful.models.heads import REWARD, VECTORS, Labels, labels_in
from tuneful.models.load import Loaded, load, locate
from tuneful.models.processors import TextProcessor
from tuneful.models.prompts import prompts_in
from tuneful.recipe import Data, Recipe
from tuneful.run.decisions import Decisions, read_decisions
from tuneful.run.few import writes
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.run.resolve import pools
from tuneful.run.router import Router, attach_routed, by_task, check_task, within
from tuneful.run.unwanted import Less, written

Say = Callable[[str], None]
KINDS = {
    "single_label_classification": "class",
    "multi_label_classification": "labels",
    "regression": "number",
}


@dataclass(frozen=True, slots=True)
class Tuned:
    """A model ready to be asked. `labels` is None for generators, and for encoders that find documents."""

    policy: Policy
    processor: TextProcessor
    labels: LabelSet | None
    columns: Mapping[str, str] = field(default_factory=dict)  # what training was told of the data's columns
    encoding: str = "utf-8"
    finds: bool = False  # an encoder that places queries and documents, and answers nothing by itself
    form: str | None = None  # what training was told of the data's layout
    decisions: Decisions | None = None  # thresholds by group
    router: Router | None = None  # says whose a text is, where each task has an adapter and none was named
    prefers: Objective | None = None  # by which it learned which answers are better

    @property
    def writes(self) -> bool:
        """It answers with text."""
        return self.labels is None and not self.finds and not self.rates and self.policy.network.causal

    @property
    def rates(self) -> bool:
        """It gives a number to an answer."""
        return self.prefers is not None and self.prefers.layout.rates

    @property
    def layout(self) -> Layout:
        """What rows it is asked by."""
        if self.finds:
            return Layout.PAIRS
        return Layout.TOKENS if self.labels is None else Layout.LABELS

    def generate(
        self,
        messages: Sequence[Message] | str,
        *,
        limit: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        stops: Sequence[str] = (),
        less: Less = (),
    ) -> str:
        """The answer to one conversation, or to one request; it ends before any of the texts `stops`, and has less of
        the attributes `less`, such as "toxicity"."""
        turns = [Message("user", messages)] if isinstance(messages, str) else list(messages)
        return self.answer([turns], limit=limit, temperature=temperature, seed=seed, stops=stops, less=less)[0]

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        *,
        limit: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        stops: Sequence[str] = (),
        less: Less = (),
    ) -> list[str]:
        """An answer to each conversation."""
        examples = [Example(Place("input", n), messages=tuple(turns)) for n, turns in enumerate(conversations, 1)]
        return self._write(examples, less, limit, temperature, seed, stops)

    def answers_to(
        self,
        examples: Sequence[Example],
        *,
        limit: int = 256,
        temperature: float = 0.0,
        stops: Sequence[str] = (),
        less: Less = (),
        tasks: Sequence[str] = (),
    ) -> list[Any]:
        """An answer, or a label, to each row of data as `data.inputs` reads it; `tasks` says whose each row is, where
        that is known already (`tasks_of`)."""
        if self.labels is None or less:
            return list(self._write(examples, less, limit, temperature, 0, stops, tasks))
        return self._said(examples, tasks)

    def tasks_of(self, examples: Sequence[Example]) -> list[str]:
        """Whose adapter answers each row; empty where one answers all."""
        if self.router is None:
            return []
        if self.labels is None:
            rows = [_row(one, self.processor.prompt(one.messages, one.tools)) for one in examples]
        else:
            rows = self._read(_texts(examples))
        return self.router.of_rows(self.policy, rows)

    def _write(
        self,
        examples: Sequence[Example],
        less: Less,
        limit: int,
        temperature: float,
        seed: int,
        stops: Sequence[str],
        tasks: Sequence[str] = (),
    ) -> list[str]:
        if self.labels is not None and less:
            raise ModelError("less: this model gives labels; only what is written can have less of something; "
                             "leave it out")  # fmt: skip
        if self.labels is not None:
            raise ModelError("this model gives labels; it does not write text")
        if self.finds:
            raise ModelError("this model finds documents; it does not write text")
        if self.rates:
            raise ModelError("this model gives answers a number, and writes none: tuneful.rate(run, ...)")

        def write(own: Sequence[Example]) -> list[str]:
            return written(
                self.policy, self.processor, own, less, limit=limit, temperature=temperature, seed=seed, stops=stops
            )

        return by_task(self.policy, examples, tasks or self.tasks_of(examples), write)

    def classify(
        self, texts: str | Sequence[str | tuple[str, str]], *, groups: str | Sequence[str | None] | None = None
    ) -> Any:
        """A label, a set of labels, or a number for one text, or a list of them for a list of texts or pairs. `groups`
        says whose each text is, where the run has thresholds by group; where it is None the model alone answers, unless
        it is by what texts mention that the run tells groups."""
        if isinstance(texts, str):
            return self.classify([texts], groups=None if groups is None else [str(groups)])[0]
        if isinstance(groups, str):
            raise ModelError(
                f"groups: found the text '{groups}', expected a list with one of each of {len(texts)} texts"
            )
        if groups is not None and (self.decisions is None or len(groups) != len(texts)):
            wanted = "a run with repair: thresholds" if self.decisions is None else f"one of each of {len(texts)} texts"
            raise ModelError(f"groups: found {len(groups)}, expected {wanted}; leave groups out, or mend them")
        pairs = [(text, None) if isinstance(text, str) else text for text in texts]
        whose = groups or [None] * len(pairs)
        examples = [
            Example(Place("input", number), text=first, second=second, group=group)
            for number, ((first, second), group) in enumerate(zip(pairs, whose, strict=True), 1)
        ]
        if self.decisions is not None:
            self.decisions.check(examples)
        return self._said(examples)

    def _said(self, examples: Sequence[Example], tasks: Sequence[str] = ()) -> list[Any]:
        """By the model, and by thresholds where there are any and the group is known."""
        labels = self._label_set()
        logits = self.scores(_texts(examples), tasks=tasks)
        if self.decisions is None:
            return predictions(logits, labels)
        return named(self.decisions.said(examples, logits), labels)

    def scores(self, texts: Sequence[str | tuple[str, str]], *, tasks: Sequence[str] = ()) -> np.ndarray:
        """(R, C) logits; of each text by the adapter of its task, where there are several."""
        self._label_set()
        rows = self._read(texts)
        if self.router is not None and not tasks:
            tasks = self.router.of_rows(self.policy, rows)
        collate = Collator(Layout.LABELS)
        return np.stack(by_task(self.policy, rows, tasks, lambda own: [*class_logits(self.policy, own, collate)]))

    def vectors(self, texts: Sequence[str | tuple[str, str]]) -> Tensor:
        """(R, D) of unit length: the mean of each text's hidden states."""
        return vectors(self.policy, self._read(texts), Collator(Layout.LABELS))

    def queries(self, texts: Sequence[str]) -> Tensor:
        """(R, D) of unit length. Their products with `documents` are cosines: what is nearest is found."""
        return self._placed(self.processor.query, texts)

    def documents(self, texts: Sequence[str]) -> Tensor:
        """(R, D) of unit length."""
        return self._placed(self.processor.document, texts)

    def _placed(self, read: Callable[..., tuple[Encoded, bool]], texts: Sequence[str]) -> Tensor:
        if not self.finds:
            raise ModelError("this model was not tuned to find documents; `vectors` reads texts with any encoder")
        found = [read(text, limit=self.processor.max_tokens)[0] for text in texts]
        rows = [Row(Example(Place("input", n)), encoded.ids, encoded.learn) for n, encoded in enumerate(found, 1)]
        return vectors(self.policy, rows, Collator(Layout.LABELS))

    def _read(self, texts: Sequence[str | tuple[str, str]]) -> list[Row]:
        rows = []
        for number, text in enumerate(texts, 1):
            first, second = (text, None) if isinstance(text, str) else text
            encoded = self.processor.text(first, second, limit=self.processor.max_tokens)
            rows.append(Row(Example(Place("input", number), text=first), encoded.ids, encoded.learn))
        return rows

    def save_merged(self, folder: str | Path) -> None:
        """One plain transformers model in float32, with tokenizer and template."""
        if self.router is not None:
            raise ModelError(f"task: each of {', '.join(self.router.tasks)} has an adapter of its own; say which is "
                             "merged: tuneful.load(run, task=NAME).save_merged(folder)")  # fmt: skip
        self.policy.attached.merged().save_pretrained(folder)  # type: ignore[operator]
        self.processor.save(str(folder))

    def _label_set(self) -> LabelSet:
        if self.labels is None:
            what = "finds documents" if self.finds else "writes text"
            raise ModelError(f"this model {what}; it gives no labels")
        return self.labels


def open_model(
    name: str,
    say: Say = lambda _: None,
    *,
    quantise: Kind | None = None,
    task: str | None = None,
    routes: bool = False,
) -> Tuned:
    """A run folder, or any model: embedded name, folder or hub id. `quantise` keeps the layers of the model, or of the
    base under a run's adapter, so. Without it an adapter lies on the model's own weights, however it was tuned. Of a
    run whose tasks have adapters of their own `task` takes one (so does the name RUN/adapters/TASK); without it
    whoever asks must say that each text may find its own (`routes`)."""
    prepare_process()
    name, task = within(name, task)
    folder = RunFolder(Path(name))
    check_task(folder, name, task, routes=routes)
    if quantise is not None:
        check(quantise, pick_device())
    if folder.exists():
        return _open_run(folder, say, quantise, task)
    path = locate(name, say)
    labels = labels_in(path)
    dtype = torch.float32 if labels else precision("auto")
    loaded = load(name, labels=labels, dtype=dtype, quantise=quantise, say=say, device=pick_device())
    policy = Policy(loaded.network, FinishedWeights(loaded.module, lambda: loaded.module))
    return Tuned(policy, loaded.processor, _label_set(loaded) if labels else None)


def open_encoder(name: str, labels: LabelSet | None, say: Say = lambda _: None) -> Tuned:
    """A model, embedded name, folder or hub id, that reads texts as vectors; its head for these labels is yet to be
    placed."""
    prepare_process()
    wanted = VECTORS if labels is None else Labels(labels.names, PROBLEMS["class"], pooled=True)
    loaded = load(name, labels=wanted, device=pick_device(), say=say)
    return Tuned(
        Policy(loaded.network, FinishedWeights(loaded.module, lambda: loaded.module)), loaded.processor, labels
    )


def is_bare(name: str, say: Say = lambda _: None) -> bool:
    """An encoder that nobody tuned to answer anything: no run, no model that writes, no head."""
    if RunFolder(Path(name)).exists():
        return False
    path = locate(name, say)
    return not writes(path) and labels_in(path) is None


def open_finder(name: str, say: Say = lambda _: None) -> Tuned:
    """The same for queries and documents, before anything was tuned."""
    encoder = open_encoder(name, None, say)
    prompts = encoder.processor.prompts.told_apart()
    return replace(encoder, processor=replace(encoder.processor, prompts=prompts), finds=True)


def _open_run(folder: RunFolder, say: Say, quantise: Kind | None, task: str | None) -> Tuned:
    folder.refuse_several()
    lock = folder.read_json(folder.lock)
    recipe = lock["recipe"]
    _refuse_silent(folder, recipe_of(lock))
    trust = bool(recipe["trust_remote_code"])
    names, kind = lock["labels"], lock["label_kind"]
    problem = next((problem for problem, known in KINDS.items() if known == kind), "")
    labels = Labels(tuple(names), problem, pooled=_is_pooled(recipe_of(lock))) if names else None
    layout = _layout(recipe_of(lock))
    finds = layout is Layout.PAIRS
    if finds or (layout is not None and layout.rates):
        labels = VECTORS if finds else REWARD
    # As in training, but for labels: a number in a person's own unit would be rounded to three digits in bf16.
    compute = torch.float32 if labels else precision(recipe["precision"])

    def take(model: str, dtype: torch.dtype = torch.float32) -> Loaded:
        given: dict[str, Any] = {"labels": labels, "device": pick_device(), "trust_remote_code": trust, "say": say}
        return load(model, dtype=dtype, quantise=quantise, **given)

    router = None
    if folder.adapters.exists():
        loaded = take(recipe["model"], compute)
        attached_each, router = attach_routed(loaded.module, folder.adapters, task)
        policy = Policy(loaded.network, attached_each)
        processor = _processor_of(folder.adapters / attached_each.tasks[0], loaded)
    elif folder.adapter.exists():
        if (under := recipe.get("quantise")) and under != quantise:
            say(f"tuned over {under} weights, read over {quantise or 'the model as it is'}: figures differ a little")
        loaded = take(recipe["model"], compute)
        policy = Policy(loaded.network, attach_saved(loaded.module, str(folder.adapter)))
        processor = _processor_of(folder.adapter, loaded)
    elif folder.model.exists():
        loaded = take(str(folder.model))
        attached = FinishedWeights(loaded.module, lambda: take(recipe["model"]).module)
        policy = Policy(loaded.network, attached, autocast=None if compute == torch.float32 else compute)
        processor = loaded.processor
    else:
        raise RunFolderError(f"{folder.path} has no adapter/ and no model/: the run did not end; go on with --resume")
    data = _told(recipe_of(lock))
    known = LabelSet(kind, tuple(names)) if names else None
    decisions = read_decisions(folder)
    objective = recipe_of(lock).task.objective
    prefers = objective if objective is not None and (objective.layout.prefers or objective.layout.rates) else None
    return Tuned(policy, processor, known, data.columns, data.encoding, finds, data.layout, decisions, router, prefers)


def _texts(examples: Sequence[Example]) -> list[str | tuple[str, str]]:
    return [e.text if e.second is None else (e.text, e.second) for e in examples]  # type: ignore[misc]


def _row(example: Example, encoded: Encoded) -> Row:
    return Row(example, encoded.ids, encoded.learn)


def _told(recipe: Recipe) -> Data:
    """What training was told of its data: of several tasks the last one that names a column, as what is kept of earlier
    ones has columns of its own."""
    return next((task.data for task in reversed(recipe.tasks) if task.data.columns), recipe.tasks[-1].data)


def _refuse_silent(folder: RunFolder, recipe: Recipe) -> None:
    """An encoder without a head answers nothing yet."""
    objective = recipe.task.objective
    if objective is not None and (objective.layout.alone or objective.layout is Layout.CLASSES):
        learned = "from texts alone" if objective.layout.alone else "to tell classes apart"
        raise RunFolderError(
            f"{folder.path} holds an encoder that learned {learned}; it gives no labels by itself. "
            f"Tune it on: tuneful fit DATA --model {folder.path}; or with names of classes: predict {folder.model}"
        )


def _processor_of(adapter: Path, loaded: Loaded) -> TextProcessor:
    """The tokenizer and template that were saved with the adapter, which are those of training."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(adapter, local_files_only=True)
    given = {"eos_token_id": sorted(loaded.processor.stop_ids), "pad_token_id": loaded.processor.pad_id}
    config = {**given, "max_position_embeddings": loaded.processor.max_tokens}
    found = TextProcessor.of(tokenizer, given, config, writes=loaded.network.causal)
    return replace(found, prompts=prompts_in(adapter))


def _layout(recipe: Recipe) -> Layout | None:
    objective = recipe.task.objective
    return None if objective is None else objective.layout


def _is_pooled(recipe: Recipe) -> bool:
    objective = recipe.task.objective
    return objective is not None and pools(objective)


def _label_set(loaded: Loaded) -> LabelSet:
    config: Any = loaded.module.config
    names = tuple(config.id2label[index] for index in sorted(config.id2label))
    return LabelSet(KINDS[config.problem_type], names)  # type: ignore[arg-type]
