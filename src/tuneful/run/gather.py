"""Recipe -> what its sources hold, understood as examples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from tuneful.core.errors import RecipeError
from tuneful.core.types import Dropped, Example
from tuneful.data.formats import Format, detect, understand
from tuneful.data.labels import LabelSet
from tuneful.data.names import Names
from tuneful.data.sources import Raw, read
from tuneful.recipe import Recipe, Task
from tuneful.run.added import check_turns
from tuneful.run.each import check_each, settled_each
from tuneful.run.few import by_name, data_has_names_only
from tuneful.run.rollouts import made, makes_its_own
from tuneful.run.streamed import Sampled, held_out, is_streamed, look, one_layout
from tuneful.run.tasks import Found, against_affinity, alone, check_gradient, check_tasks, joined, settled, sha256_of
from tuneful.run.teacher import as_labelled, taught
from tuneful.run.unlearning import against_unlearning

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the sources hold, as far as it is known before training."""

    form: Format
    examples: Mapping[str, list[Example]]
    dropped: list[Dropped]
    weights: Mapping[str, float]  # of the rows of each file
    held_out: Mapping[str, float]  # what `split` takes for validation and test
    sha256: str
    sampled: Sampled | None = None  # where rows are not held
    teaches: bool = False  # all labels are a teacher's
    names_only: bool = False  # of the classes nothing but the names is known
    leaked: Sequence[Dropped] = ()  # rows that said the same as others of their task, which are held out


def gather(recipe: Recipe, say: Say) -> tuple[Recipe, Gathered]:
    """The recipe then says whether rows are held, and how classes are learned of which only the names are known. Raises
    InputError."""
    if problems := [*against_unlearning(recipe), *against_affinity(recipe)]:
        raise RecipeError(problems)
    check_gradient(recipe)
    check_each(recipe)
    check_turns(recipe)
    if len(recipe.tasks) > 1:
        recipe = settled_each(settled(recipe))
        return recipe, _together(recipe, say)
    recipe, gathered = _read(recipe, say)
    gathered = _taught(recipe, gathered, say)
    if data_has_names_only(recipe, gathered.form):
        nothing = {"validation": 0.0, "test": 0.0}
        return by_name(recipe), replace(gathered, held_out=nothing, names_only=True)
    return recipe, gathered


def of_all_parts(recipe: Recipe, task: Task, say: Say) -> tuple[list[Example], list[Dropped]]:
    """The rows of one task, whatever part they are of, and those that could not be understood. Raises InputError."""
    found = _read(alone(recipe, task), say)[1]
    return [example for examples in found.examples.values() for example in examples], found.dropped


def _together(recipe: Recipe, say: Say) -> Gathered:
    """Of several tasks, split already."""
    check_tasks(recipe)
    read_of = [_read(alone(recipe, task), say)[1] for task in recipe.tasks]
    tasks = zip(recipe.tasks, read_of, strict=True)
    found = [Found(task, one.form, dict(one.examples), dict(one.held_out), one.weights) for task, one in tasks]
    all_of = joined(recipe, found)
    dropped = [row for one in read_of for row in one.dropped]
    nothing = {"validation": 0.0, "test": 0.0}
    sha256 = sha256_of([one.sha256 for one in read_of])
    return Gathered(all_of.form, all_of.examples, dropped, all_of.weights, nothing, sha256, leaked=all_of.leaked)


def _read(recipe: Recipe, say: Say) -> tuple[Recipe, Gathered]:
    """The recipe says whether rows are held."""
    data = recipe.task.data
    held = {"validation": data.validation, "test": data.test}
    if makes_its_own(recipe):
        form, examples, sha256 = made(recipe)
        return recipe.with_data(streaming=False), Gathered(form, examples, [], {}, held, sha256)
    streams = is_streamed(data, say)
    recipe = recipe.with_data(streaming=streams)
    data = recipe.task.data
    if streams:
        found = look(recipe, say)
        held = dict(held_out(data, found.rows))
        return recipe, Gathered(found.form, found.examples, found.dropped, {}, held, found.sha256, found)
    tables = [(s.weight, read(s.path, encoding=data.encoding, seed=recipe.seed, say=say)) for s in data.sources]
    return recipe, Gathered(*_understand(recipe, tables), held, _sha256(tables))


def _taught(recipe: Recipe, gathered: Gathered, say: Say) -> Gathered:
    """Texts without labels, where there is a teacher and nothing else that knows any."""
    data = recipe.task.data
    if data.teacher is None or gathered.form.name != "text":
        return gathered
    if gathered.sampled is not None:
        raise RecipeError(["data.teacher: labels texts that are held; --set data.streaming=false holds them"])
    known = None if data.labels is None else LabelSet.of_names(data.labels)
    whole = [example for found in gathered.examples.values() for example in found]
    lessons = iter(taught(data.teacher, whole, known, say))
    examples = {part: list(islice(lessons, len(found))) for part, found in gathered.examples.items()}
    return replace(gathered, examples=examples, form=as_labelled(gathered.form), teaches=True)


def _understand(
    recipe: Recipe, tables: Sequence[tuple[float, Mapping[str, Sequence[Raw]]]]
) -> tuple[Format, dict[str, list[Example]], list[Dropped], dict[str, float]]:
    """Examples by split, and for each source file the weight of its rows."""
    data = recipe.task.data
    examples: dict[str, list[Example]] = {}
    dropped: list[Dropped] = []
    weights: dict[str, float] = {}
    forms: list[Format] = []
    learned: set[str] = set()  # layouts of the rows for training
    for weight, table in _with_names_of_their_own(tables, [source.path for source in data.sources]):
        for part, rows in table.items():
            if rows:
                form, columns = detect(rows, data.columns, data.layout)
                forms.append(form)
                learned |= {form.name} if part == "train" else set()
                good, bad = understand(rows, form, columns)
                examples.setdefault(part, []).extend(good)
                dropped += bad
                weights[rows[0].place.source] = weight
    if data.labels is not None and {"text", "labelled"} <= learned:
        raise RecipeError(["data.source: rows with labels and texts without are given as one; name the texts apart, as "
                           "data.unlabelled"])  # fmt: skip
    if data.labels is None or {form.name for form in forms} - {"text", "labelled"}:
        one_layout(forms)
    return forms[0], examples, dropped, weights


def _with_names_of_their_own(
    tables: Sequence[tuple[float, Mapping[str, Sequence[Raw]]]], paths: Sequence[str]
) -> Iterator[tuple[float, dict[str, Sequence[Raw]]]]:
    """Rows say where they come from in a name that no other file has."""
    names = Names()
    for number, ((weight, table), path) in enumerate(zip(tables, paths, strict=True), 1):
        named: dict[str, Sequence[Raw]] = {}
        for part, rows in table.items():
            name = rows[0].place.source if rows else ""
            own = names.own(name, path, part, alone=len(table) == 1, number=number)
            named[part] = rows if own == name else [
                replace(raw, place=replace(raw.place, source=own)) for raw in rows
            ]  # fmt: skip
        yield weight, named


def _sha256(tables: Sequence[tuple[float, Mapping[str, Sequence[Raw]]]]) -> str:
    """Of what was read, so that a changed file is noticed and a moved one is not."""
    digest = hashlib.sha256()
    for _, table in tables:
        for part in sorted(table):
            for raw in table[part]:
                digest.update(repr((part, sorted(raw.fields.items(), key=lambda item: item[0]))).encode())
    return digest.hexdigest()
