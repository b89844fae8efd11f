"""Runs that learn from their own answers: what is asked, who judges, and what does not go with that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from tuneful.adapters import Lora
from tuneful.core.device import world
from tuneful.core.environment import PARTS, Environment, Lacks, MakesExamples
from tuneful.core.errors import DataError, RecipeError
from tuneful.core.policy import Policy
from tuneful.core.protocols import Disturbs
from tuneful.core.types import Dropped, Example, Layout, Record, Row, Said
from tuneful.data.formats import FORMATS, Format
from tuneful.data.names import Name
from tuneful.data.rows import Rows
from tuneful.data.splits import MOST
from tuneful.environments import Play
from tuneful.evaluation.rewarded import SEED
from tuneful.models.playing import Player, has_answer
from tuneful.models.processors import TextProcessor
from tuneful.objectives import OnPolicyDistil
from tuneful.recipe import Recipe
from tuneful.recipe.task import OWN
from tuneful.run import judges
from tuneful.run.folder import RunFolder
from tuneful.run.lock import recipe_of
from tuneful.schedules import Rollouts
from tuneful.schedules.rollouts import RolloutSteps

ROWS = 256  # that an environment makes, where nobody says
HALF = 0.5


def makes_its_own(recipe: Recipe) -> bool:
    """The rows are the environment's."""
    return recipe.task.environment is not None and Name.of(recipe.task.data.sources[0].path).path == OWN


def made(recipe: Recipe) -> tuple[Format, dict[str, list[Example]], str]:
    """What an environment makes, each part by a seed that has no world in common with the others', with a name for all
    of it. Raises RecipeError."""
    environment, data = recipe.task.environment, recipe.task.data
    assert environment is not None
    if not isinstance(environment, MakesExamples):
        raise RecipeError([f"data: the environment '{environment.kind}' judges answers to rows that it is given; name "
                           "a source"])  # fmt: skip
    count = Name.of(data.sources[0].path).limit or ROWS
    sizes = {"train": count, "validation": _share(data.validation, count, "validation"),
             "test": _share(data.test, count, "test")}  # fmt: skip
    first = int(np.random.SeedSequence(recipe.seed).generate_state(1)[0]) // PARTS * PARTS
    parts = {
        part: environment.examples(size, first + number) if size else []
        for number, (part, size) in enumerate(sizes.items())
    }
    told = repr([environment.model_dump(mode="json"), sizes, recipe.seed])  # type: ignore[attr-defined]
    return next(form for form in FORMATS if form.name == "messages"), parts, hashlib.sha256(told.encode()).hexdigest()


def _share(wanted: float, count: int, part: str) -> int:
    return int(wanted) if wanted >= 1 or not wanted else min(MOST[part], max(1, round(wanted * count)))


def check_environment(recipe: Recipe, layout: Layout, *, writes: bool, streams: bool) -> None:
    """Raises RecipeError for what is missing, means nothing here, or was not made for it yet."""
    played, tried = layout.plays, isinstance(recipe.schedule, Rollouts)
    environment = recipe.task.environment
    if recipe.evaluate.verify and not layout.plays:
        raise RecipeError(["evaluate.verify: judges what a model learned to write from rewards, and here it learns "
                           "otherwise; leave it out"])  # fmt: skip
    if len(recipe.tasks) > 1 and any(task.environment is not None for task in recipe.tasks):
        raise RecipeError(["tasks: what an environment judges is learned by itself in this version; make a run of its "
                           "own of that task"])  # fmt: skip
    if not (played or tried or environment is not None):
        return
    problems = list(_apart(recipe, layout))
    if not problems:
        problems = list(_problems(recipe, writes=writes, streams=streams))
    if not problems and isinstance(environment, Lacks):
        problems = [f"environment: {words}" for words in environment.lacking()]
    lacking = [one for one in recipe.evaluate.verify if isinstance(one, Lacks)]
    problems += [f"evaluate.verify: {words}" for one in lacking for words in one.lacking()]
    if not problems:
        problems = list(judges.problems(recipe))
    if problems:
        raise RecipeError(problems)


def _apart(recipe: Recipe, layout: Layout) -> Iterator[str]:
    """Of objective, schedule and environment none goes without the others."""
    kind = getattr(recipe.task.objective, "kind", "")
    if recipe.task.environment is None:
        what = f"objective: '{kind}'" if layout.plays else "schedule: 'rollouts'"
        yield (f"{what} learns from answers that something judges; say what: --set environment.rewards=exact for an "
               "answer that should be the expected one, or another (docs/concepts/environments.md)")  # fmt: skip
    elif not isinstance(recipe.schedule, Rollouts):
        yield (f"schedule: an environment judges what the model writes itself, and '{recipe.schedule.kind}' shows it "
               "answers of others; take rollouts")  # fmt: skip
    elif not layout.plays:
        yield (f"objective: '{kind}' learns given answers; from its own, with rewards, a model learns by grpo, rloo or "
               "reinforce_plus_plus")  # fmt: skip


def _problems(recipe: Recipe, *, writes: bool, streams: bool) -> Iterator[str]:
    data, what = recipe.task.data, "a model's own answers"
    if not writes:
        yield "model: an encoder writes no answers; leave --model out, or name one that writes"
    for name in ("select", "balance", "generated", "patch", "mentions", "unlabelled", "teacher", "labels"):
        if getattr(data, name, None) not in (None, [], False):
            yield f"data.{name}: was not made for {what} in this version; leave it out"
    if isinstance(recipe.task.objective, OnPolicyDistil) and recipe.task.objective.teacher is None:
        yield "objective.teacher: on_policy_distil learns from a teacher; name a run or a model of the same family"
    if kinds := [cast(Any, part).kind for part in recipe.regularisers if isinstance(part, Disturbs)]:
        yield f"regularisers: {kinds[0]} disturbs what is learned, and answers were drawn undisturbed; leave it out"
    if recipe.augment:
        yield f"augment: was not made for {what} in this version; leave it out"
    if streams:
        yield "data.streaming: prompts are held while they are tried; set it to false"
    if recipe.sharded or world() > 1:
        yield "schedule: 'rollouts' takes one process in this version, with all weights; leave torchrun and sharded out"
    if recipe.soup or recipe.evaluate.canaries:
        name = "soup" if recipe.soup else "evaluate.canaries"
        yield f"{name}: was not made for {what} in this version; leave it out"
    if recipe.evaluate.new_tokens is not None:
        yield "evaluate.new_tokens: answers are measured as long as they are learned, schedule.new_tokens; leave it out"
    if recipe.schedule.hints is not None and getattr(recipe.task.environment, "turns", 1) != 1:
        yield "schedule.hints: begin an only answer, and here there are several turns; leave it out"
    if isinstance(recipe.adapter, Lora) and recipe.adapter.dropout:
        yield "adapter.dropout: answers are drawn without dropout, so they are learned without; leave it out"
    if recipe.optimiser.rows_per_step is not None or recipe.optimiser.tokens_per_step is not None:
        yield "optimiser: schedule.prompts and schedule.answers say how much an update has; leave rows_per_step out"


def asked(
    examples: Sequence[Example],
    layout: Layout,
    processor: TextProcessor,
    limit: int,
    *,
    environment: Environment,
    room: int,
) -> Rows:
    """Rows that hold what the model is asked first, as an environment asks it; `room` tokens are left to answer."""
    out, games = Rows(), Play(environment, [(example, SEED) for example in examples]).games
    for example, game in zip(examples, games, strict=True):
        try:
            if game.broken:
                raise DataError(game.broken)
            encoded = processor.prompt(game.messages, game.tools)
            if len(encoded.ids) + room > limit:
                raise DataError(f"{len(encoded.ids):,} tokens are asked, and with {room:,} for an answer that is more "
                                f"than {limit:,}; shorten the row, or lower schedule.new_tokens")  # fmt: skip
        except DataError as problem:
            out.dropped.append(Dropped(example.place, str(problem)))
            continue
        out.texts[len(out.rows)] = encoded
        out.rows.append(Row(example, encoded.ids, encoded.learn, prompt=len(encoded.ids)))
    return out


def asking(recipe: Recipe, processor: TextProcessor, limit: int) -> Any:
    """`data.rows.build` of a run like this."""
    environment = cast(Environment, recipe.task.environment)
    return partial(asked, layout=Layout.ROLLOUTS, processor=processor, limit=limit,
                   environment=environment, room=recipe.schedule.new_tokens)  # fmt: skip


def player_of(recipe: Recipe, processor: TextProcessor) -> Player:
    """Who plays; an episode has as many tokens as a row may have."""
    environment, limit = recipe.task.environment, recipe.task.data.max_tokens
    assert environment is not None and limit is not None  # preparing writes it out  # noqa: PT018
    return Player(processor, partial(Play, judges.with_raters(environment)), recipe.schedule.new_tokens, limit)


def player_of_run(folder: RunFolder, processor: TextProcessor) -> Player | None:
    """Who plays what a finished run has learned to play; None where that is nothing."""
    recipe = recipe_of(folder.read_json(folder.lock)) if folder.exists() else None
    return None if recipe is None or recipe.task.environment is None else player_of(recipe, processor)


def played(schedule: Any, recipe: Recipe, processor: TextProcessor) -> Any:
    """The schedule with a player, where the model learns from its own answers."""
    if not isinstance(schedule, RolloutSteps):
        return schedule
    if schedule.settings.hints is not None and not any(has_answer(row.example) for row in schedule.rows):
        raise RecipeError(["schedule.hints: are parts of the rows' own answers, and no row has one; leave it out"])
    objective = cast(Any, recipe.task.objective)
    return schedule.played_by(player_of(recipe, processor), objective, teacher_of(objective, processor))


def teacher_of(objective: Any, processor: TextProcessor) -> Policy | None:
    """The policy of the model that says how likely a token should have been, if one does. Raises RecipeError."""
    if not isinstance(objective, OnPolicyDistil):
        return None
    from tuneful.run.tuned import open_model  # which itself prepares recipes

    tuned = open_model(str(objective.teacher))
    if not tuned.policy.network.causal or tuned.processor.tokenizer.get_vocab() != processor.tokenizer.get_vocab():
        raise RecipeError([f"objective.teacher: {objective.teacher} does not read the same tokens as the model, so it "
                           "cannot say how likely they are; take a model of the same family"])  # fmt: skip
    tuned.policy.module.eval()
    return tuned.policy


def planned(schedule: object, rows: Sequence[Row]) -> Sequence[Row]:
    """Rows as they will be learned, for what a run will cost: answers half as long as they may be, but for one."""
    if not isinstance(schedule, Rollouts):
        return rows
    more = np.zeros(max(1, schedule.new_tokens // 2), dtype=np.int32)
    learn = np.ones(len(more), dtype=np.float32)
    long = [replace(row, ids=np.r_[row.ids, more], learn=np.r_[row.learn, learn]) for row in rows]
    whole = np.zeros(len(long[0]) + schedule.new_tokens - len(more), dtype=np.int32) if long else more
    found = [row for row in long for _ in range(schedule.answers)]
    return [replace(found[0], ids=whole, learn=np.ones(len(whole), dtype=np.float32)), *found[1:]] if found else found


def never_apart(recipe: Recipe, records: Iterable[Record]) -> list[Said]:
    """Says so where most updates had nothing to learn from: answers were cut, or all worth the same."""
    drawn = [record.metrics for record in records if "spread" in record.metrics]
    idle = [metrics for metrics in drawn if not metrics["rows"]]
    if 2 * len(idle) <= len(drawn):
        return []
    cut, broken = (np.mean([metrics[name] for metrics in idle]) for name in ("truncated", "broken"))
    whole = not getattr(recipe.task.objective, "truncated", True)
    facts = {"percent": round(100 * len(idle) / len(drawn))}
    if broken > HALF:
        return [Said("never_judged", facts)]
    return [Said("never_whole", facts) if whole and cut > HALF else Said("never_apart", facts)]
