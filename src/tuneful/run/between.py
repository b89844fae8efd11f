"""What a person should know of tasks that are learned together: the same text with another answer, and languages that
differ."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tuneful.core.types import Example, Said
from tuneful.data.duplicates import alike, said_in
from tuneful.data.labels import name_of
from tuneful.data.language import is_english
from tuneful.recipe import Recipe
from tuneful.run.each import each_of

SHOWN = 60  # characters of a text
Texts = Mapping[str, Sequence[str]]  # by task


def between(recipe: Recipe, rows: Sequence[Example]) -> list[Said]:
    """Of the training rows of all tasks of one kind; empty for one task. With adapters of their own tasks share no
    head, so each may say of a text what it likes."""
    if len(recipe.tasks) < 2:
        return []
    by_task: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        by_task[row.task].append(row)
    said = {task: [said_in(row) for row in own] for task, own in by_task.items()}
    return [*([] if each_of(recipe) else _disagreeing(by_task)), *languages(said)]


def foreign(said: Texts) -> list[str]:
    """The tasks that are not in English, where others are."""
    found = [task for task, texts in said.items() if not is_english(texts)]
    return [] if len(found) == len(said) else found


def languages(said: Texts) -> list[Said]:
    """Where some tasks are in English and others not."""
    others = foreign(said)
    english = [task for task in said if task not in others]
    return [Said("tasks_languages", {"others": ", ".join(others), "english": ", ".join(english)})] if others else []


def _disagreeing(by_task: Mapping[str, Sequence[Example]]) -> Iterator[Said]:
    """Of each two tasks, how many texts they answer differently, and the first of these. Labels that bear the name of
    their task (labels: own) differ whatever they say: one head gives one class of all."""
    answers = {task: _answers(rows) for task, rows in by_task.items()}
    names = list(answers)
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            common = [text for text in answers[one] if text in answers[other]]
            differ = [text for text in common if not answers[one][text].keys() & answers[other][text].keys()]
            if differ:
                first = differ[0]
                (mine, row), (theirs, _) = (next(iter(answers[task][first].items())) for task in (one, other))
                facts = {"text": said_in(row), "label": mine, "others": theirs}
                told = {name: _short(words) for name, words in facts.items()}
                yield Said("tasks_disagree", {"n": len(differ), "one": one, "other": other, **told})


def _answers(rows: Sequence[Example]) -> dict[str, dict[str, Example]]:
    """By text what is said of it, each with the first row that says so. Of a conversation its last answer."""
    found: dict[str, dict[str, Example]] = defaultdict(dict)
    for row in rows:
        learned = [message.content for message in row.messages if message.learned]
        answer = name_of(row.label) if row.label is not None else learned[-1] if learned else None
        if answer is not None:
            found[alike(row)].setdefault(answer, row)
    return found


def _short(text: str) -> str:
    told = " ".join(text.split())
    return told if len(told) <= SHOWN else f"{told[: SHOWN - 1]}…"
