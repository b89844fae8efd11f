"""Who is in the data, on the coach's page: bars of each axis as SVG that takes the page's colours and font, and the
labels that go with groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from tuneful.evaluation.people import axis_name, group_name, labels_of, missing, share
from tuneful.evaluation.phrases import number
from tuneful.evaluation.words import words

AXES, BARS = 6, 12  # drawn
WIDTH, NAMES, COUNTS, STEP, HIGH = 360.0, 140.0, 52.0, 24.0, 14.0
LETTERS = 18  # of a name, as far as there is room; a Chinese one takes two


def shown(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The axes that are drawn: those that occur, the column's first and then that with most rows."""
    return [axis for axis in found["axes"] if axis["rows"]][:AXES]


def not_drawn(found: Mapping[str, Any], language: str) -> str:
    """The names of axes that occur and are not drawn."""
    rest = [axis for axis in found["axes"] if axis["rows"]][AXES:]
    return words(language)["between_items"].join(axis_name(axis, language) for axis in rest)


def drawn_axis(axis: Mapping[str, Any], rows: int, language: str) -> dict[str, Any]:
    """Title, picture and what stands below it."""
    say = words(language)
    title = axis_name(axis, language)
    told = [say["people_caption"].format(rows=number(axis["rows"]), of=number(rows), share=share(axis["share"]))]
    if axis["diversity"] is not None:
        told.append(say["people_spread"].format(spread=number(axis["diversity"])))
    if axis["count"] > BARS:
        told.append(say["people_not_drawn"].format(n=number(axis["count"] - BARS)))
    if axis["missing"]:
        names = missing(axis, BARS, language)
        told.append(say["people_never"].format(groups=say["between_items"].join(names)))
    return {
        "title": say["people_column_title"].format(name=title) if axis["of"] == "column" else title,
        "picture": Markup(bars(axis, language)),
        "caption": say["between_sentences"].join(told),
    }


def labels_table(found: Mapping[str, Any], language: str) -> list[dict[str, str]]:
    """A row for each label that goes with a group, the surest first."""
    say = words(language)
    return [
        {
            "group": say["people_of_axis"].format(
                axis=axis_name(axis, language), groups=group_name(axis, group["name"], language)
            ),
            "label": rate["label"],
            "rows": number(rate["rows"]),
            "rate": say["people_rate"].format(**{key: share(rate[key]) for key in ("rate", "low", "high")}),
            "overall": share(rate["overall"]),
        }
        for axis, group, rate in labels_of(found)
    ]


def bars(axis: Mapping[str, Any], language: str) -> str:
    """A bar for each of the most frequent groups, its rows behind it. The same is read out in words."""
    groups = [(group_name(axis, one["name"], language), one["rows"]) for one in axis["groups"][:BARS]]
    height = STEP * len(groups) + 4
    label = escape(_label(axis, groups, language))
    head = f'<svg class="chart people" role="img" aria-label="{label}" viewBox="0 0 {WIDTH:.0f} {height:.0f}"'
    most = max(rows for _, rows in groups)
    drawn = [_bar(place, name, rows, rows / most) for place, (name, rows) in enumerate(groups)]
    line = f'<line class="zero" x1="{NAMES:.0f}" x2="{NAMES:.0f}" y1="0" y2="{height:.0f}"/>'
    return f'{head} xmlns="http://www.w3.org/2000/svg">{"".join(drawn)}{line}</svg>'


def _bar(place: int, name: str, rows: int, share: float) -> str:
    top = 2 + place * STEP + (STEP - HIGH) / 2
    wide = share * (WIDTH - NAMES - COUNTS)
    middle = f'y="{top + HIGH / 2:.1f}"'
    return (
        f"<g><title>{escape(name)}: {number(rows)}</title>"
        f'<text class="name" x="{NAMES - 8:.0f}" {middle}>{escape(_cut(name))}</text>'
        f'<rect class="rows" x="{NAMES:.0f}" y="{top:.1f}" width="{wide:.1f}" height="{HIGH:.0f}"/>'
        f'<text class="count" x="{NAMES + wide + 6:.1f}" {middle}>{number(rows)}</text></g>'
    )


def _cut(name: str) -> str:
    """As many letters as there is room for, wide ones counted twice."""
    room, kept = LETTERS, ""
    for letter in name:
        room -= 2 if letter >= "\u2e80" else 1
        if room < 0:
            return f"{kept}…"
        kept += letter
    return kept


def _label(axis: Mapping[str, Any], groups: Sequence[tuple[str, int]], language: str) -> str:
    say = words(language)
    counted = say["between_items"].join(say["people_counted"].format(name=name, n=number(rows))
                                        for name, rows in groups)  # fmt: skip
    return say["people_chart_label"].format(axis=axis_name(axis, language), groups=counted)
