"""Who is in the data, in a few sentences; and what axes and groups of people are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tuneful.core.types import Said
from tuneful.data.identity.lexicon import lexicon
from tuneful.data.people import LEAST
from tuneful.evaluation.phrases import Say, number
from tuneful.evaluation.words import words

AXES, MOST, NONE = 3, 3, 6  # in a sentence: axes, most frequent groups, missing groups of each
LABELS = 2  # sentences about labels
NAMED = {  # by which word list, and in which of its forms, a group is called
    "en": ("en", ("adjective", "person")),
    "zh-TW": ("zh", ("person", "people", "descent", "adjective")),
}


def sentences(found: Mapping[str, Any], offers: Sequence[Said], language: str) -> list[str]:
    """At most eight. `found` is what `tuneful.data.people` found, `offers` settings that the recipe would take."""
    say = words(language)
    if not found["axes"]:
        facts = {"n": number(found["mentioning"]), "rows": number(found["rows"]), "least": LEAST}
        return [say["people_told_none"].format(**facts)]
    return [*_who(found, language), *_labels(found, language), *_offered(offers, say), *_limits(found, say)]


def axis_name(axis: Mapping[str, Any], language: str) -> str:
    """A column is called as it is; an axis we have no word for too."""
    name = str(axis["name"])
    return name if axis["of"] == "column" else words(language).get(f"people_axis_{name}", name)


def group_name(axis: Mapping[str, Any], name: str, language: str) -> str:
    """A column's as it stands there, another by our own word or the term of the word lists."""
    if axis["of"] == "column":
        return name
    if (own := words(language).get(f"people_{axis['name']}_{name}")) is not None:
        return own
    known, forms = NAMED[language]
    written = lexicon(known).written
    terms = (written.get((axis["name"], form), {}).get(name) for form in forms)
    return next((term[0].text for term in terms if term), name.replace("_", " ").title())


def labels_of(found: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]]:
    """Labels that go with a group, the surest first, as (axis, group, rate); of two labels that tell the same, the one
    that is more frequent in the group."""
    cells = [(axis, group, rate) for axis in found["axes"] for group in axis["groups"] for rate in group["labels"]]
    return sorted(cells, key=lambda cell: (cell[2]["p_adjusted"], -round(abs(cell[2]["difference"]), 6),
                                           -cell[2]["difference"]))  # fmt: skip


def missing(axis: Mapping[str, Any], most: int, language: str) -> list[str]:
    """The names of groups that never occur, and how many more there are."""
    names = [group_name(axis, name, language) for name in axis["missing"]]
    more = [words(language)["people_more"].format(n=len(names) - most)] if len(names) > most else []
    return [*names[:most], *more]


def share(value: float) -> str:
    """Three digits of a percentage."""
    return f"{number(round(100 * value, 1))}%"


def _who(found: Mapping[str, Any], language: str) -> Iterator[str]:
    say = words(language)
    named = [axis for axis in found["axes"] if axis["of"] == "words"]
    key = "people_told_seen" if named else "people_told_few"
    yield say[key].format(n=number(found["mentioning"]), rows=number(found["rows"]), least=LEAST)
    for axis in found["axes"]:
        if axis["of"] == "column":
            yield _column(axis, found["rows"], say)
    seen = [axis for axis in named if axis["rows"]]
    if seen:
        groups = _listed(seen[:AXES], [axis["groups"][:MOST] for axis in seen[:AXES]], language)
        yield say["people_told_frequent"].format(groups=groups)
    if any(axis["missing"] for axis in named):
        yield _missing(seen, [axis for axis in named if not axis["rows"]], language)


def _column(axis: Mapping[str, Any], rows: int, say: Say) -> str:
    top = say["between_items"].join(_counted(group["name"], group, say) for group in axis["groups"][:MOST])
    told = [say["people_told_column"].format(name=axis["name"], count=number(axis["count"]), groups=top)]
    if axis["rare_count"]:
        told.append(say["people_told_rare"].format(n=number(axis["rare_count"])))
    if rows > axis["rows"]:
        told.append(say["people_told_unknown"].format(n=number(rows - axis["rows"])))
    return say["between_sentences"].join(told)


def _listed(axes: Sequence[Mapping[str, Any]], groups: Sequence[Sequence[Mapping[str, Any]]], language: str) -> str:
    say = words(language)
    parts = []
    for axis, own in zip(axes, groups, strict=True):
        counted = [_counted(group_name(axis, group["name"], language), group, say) for group in own]
        parts.append(_of_axis(axis_name(axis, language), counted, say))
    return say["people_between"].join(parts)


def _counted(name: str, group: Mapping[str, Any], say: Say) -> str:
    return say["people_counted"].format(name=name, n=number(group["rows"]))


def _of_axis(name: str, groups: Sequence[str], say: Say) -> str:
    return say["people_of_axis"].format(axis=name, groups=say["between_items"].join(groups))


def _missing(seen: Sequence[Mapping[str, Any]], absent: Sequence[Mapping[str, Any]], language: str) -> str:
    """Groups of axes that occur, then axes of which no group does."""
    say = words(language)
    told = [
        _of_axis(axis_name(axis, language), missing(axis, NONE, language), say) for axis in seen if axis["missing"]
    ][:AXES]
    if absent:
        names = say["between_items"].join(axis_name(axis, language) for axis in absent)
        told.append(say["people_nobody"].format(axes=names))
    return say["people_told_missing"].format(groups=say["people_between"].join(told))


def _labels(found: Mapping[str, Any], language: str) -> Iterator[str]:
    """The surest label of each of the groups that have one."""
    say, told = words(language), list[tuple[str, str, str]]()
    for axis, group, rate in labels_of(found):
        own = (axis["of"], axis["name"], group["name"])
        if len(told) < LABELS and own not in told:
            told.append(own)
            yield say["people_told_more" if rate["difference"] > 0 else "people_told_less"].format(
                label=rate["label"], group=group_name(axis, group["name"], language), axis=axis_name(axis, language),
                rate=share(rate["rate"]), overall=share(rate["overall"]), low=share(rate["low"]),
                high=share(rate["high"]),
            )  # fmt: skip


def _offered(offers: Sequence[Said], say: Say) -> Iterator[str]:
    if offers:
        told = [say[f"said_{one.key}"].format(**one.facts) for one in offers]
        yield say["people_told_offers"].format(offers=say["people_between"].join(told))


def _limits(found: Mapping[str, Any], say: Say) -> Iterator[str]:
    """Of word lists, where anything rests on them."""
    if any(axis["of"] == "words" for axis in found["axes"]):
        yield say["people_told_limits"]
