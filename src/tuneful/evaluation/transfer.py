"""What tasks learned one after another gave to each other and took, from one matrix of scores.

R[i][j] is the score of task j's test rows when task i had been learned, T the last one. Every measure that is a
difference is turned so that more is better (of transfer) or worse (of forgetting), also where a lower score is the
better one, as with perplexity. Scores are left as they are: a change of accuracy by 0.05 is 0.05.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Scores = Mapping[str, float | None]  # by task; None: not measured
AGAIN = re.compile(r"(.+) \(\d+\)", flags=re.DOTALL)  # how a task is called that is learned once more


def summary(
    tasks: Mapping[str, Scores], before: Scores | None = None, *, higher_is_better: bool = True
) -> dict[str, Any]:
    """The report's `forgetting.transfer`. `tasks`: R, its rows in the order learned; `before`: scores when nothing had
    been learned. A task that comes back (a row "name (2)") counts as learned when it was first. What is not known is
    left out of means; the mean of nothing is None, so one task has neither transfer nor forgetting.

    `average`, `backward_transfer`, `forward_transfer`: Lopez-Paz and Ranzato 2017, arXiv:1706.08840, equations 2 to 4;
    `learning`, the mean of R[j][j], which is what the average would be if nothing were lost: Riemer et al. 2019,
    arXiv:1810.11910; `forgetting`: Chaudhry et al. 2018, arXiv:1801.10112, equations 3 and 4. `by_task` has of each
    task its score when it was learned, the last one, and the best of all. Differs from the papers: they know every
    score."""
    rows, sign = list(tasks.values()), 1 if higher_is_better else -1
    learned = first_learned(tasks)
    own = {task: _known(rows[place], task) for task, place in learned.items()}
    now = {task: _known(rows[-1], task) for task in learned}
    earlier = [task for task, place in learned.items() if place < len(rows) - 1]
    later = {task: rows[place - 1] for task, place in learned.items() if place > 0}
    return {
        "higher_is_better": higher_is_better,
        "average": _mean(rows[-1].values()) if rows else None,
        "backward_transfer": _mean(_gain(now[task], own[task], sign) for task in earlier),
        "forward_transfer": _mean(_gain(_known(row, task), _known(before or {}, task), sign)
                                  for task, row in later.items()),
        "learning": _mean(own.values()),
        "forgetting": _mean(_gain(_best(rows[:-1], task, sign), now[task], sign) for task in earlier),
        "by_task": {
            task: {
                "learned": _rounded(own[task]), "now": _rounded(now[task]), "best": _rounded(_best(rows, task, sign))
            }
            for task in learned
        },
    }  # fmt: skip


def intransigence(learning: Scores, joint: Scores, *, higher_is_better: bool = True) -> float | None:
    """How much worse tasks were learned one after another than all at once: the mean of joint[j] - R[j][j] (Chaudhry et
    al. 2018, arXiv:1801.10112, equation 5). `joint`: scores of a run that learned all tasks at once. Differs from the
    paper: there is one joint run of all tasks, not one for each number of tasks."""
    sign = 1 if higher_is_better else -1
    return _mean(_gain(_known(joint, task), _known(learning, task), sign) for task in learning)


def first_learned(tasks: Mapping[str, Scores]) -> dict[str, int]:
    """By task, the number of the row after which it had been learned for the first time."""
    measured = {task for row in tasks.values() for task in row}
    found: dict[str, int] = {}
    for place, name in enumerate(tasks):
        again = AGAIN.fullmatch(name)
        if name in measured or again is None or again[1] not in found:
            found[name] = place
    return found


def _known(scores: Scores, task: str) -> float | None:
    score = scores.get(task)
    return score if score is not None and math.isfinite(score) else None


def _gain(score: float | None, other: float | None, sign: int) -> float | None:
    """How much better the first is."""
    return None if score is None or other is None else sign * (score - other)


def _best(rows: Sequence[Scores], task: str, sign: int) -> float | None:
    known = [score for row in rows if (score := _known(row, task)) is not None]
    return max(known, key=lambda score: sign * score, default=None)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return _rounded(sum(known) / len(known)) if known else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
