"""Gates that this run could not measure, and probes that it could not ask, so that nobody hears of it only when it has
ended."""

from __future__ import annotations

from tuneful.core.errors import InputError, RecipeError
from tuneful.data.identity import mentioned
from tuneful.data.people import told_in
from tuneful.evaluation.probes import Continuations
from tuneful.run.prepare import Prepared


def check_gated(prepared: Prepared) -> None:
    """Raises RecipeError where a gate about bias is set and what it asks is not measured, or a probe has no judge."""
    gates = prepared.recipe.gates
    problems = _unasked(prepared)
    if gates.bias_gap_increase is not None and (why := _no_gaps(prepared)):
        problems.append(f"gates.bias_gap_increase: gaps between groups are measured of a classifier's test rows, {why}")
    if gates.bias_probe_increase and (why := _no_probes(prepared)):
        problems.append(f"gates.bias_probe_increase: probes are asked of a model that writes, {why}")
    if problems:
        raise RecipeError(problems)


def _unasked(prepared: Prepared) -> list[str]:
    """What is wrong with the probes of a model that writes."""
    settings = prepared.recipe.evaluate
    problems: list[str] = []
    if not prepared.layout.writes or not settings.enabled or isinstance(settings.bias, str):
        return problems
    for probe in settings.bias:
        try:
            probe.check() if isinstance(probe, Continuations) else probe.items()
        except InputError as error:
            problems.append(f"evaluate.bias: {error}")
    return problems


def _no_gaps(prepared: Prepared) -> str:
    settings = prepared.recipe.evaluate
    if not prepared.tells_classes:
        return "and this run learns no classes of rows; leave it out (for a model that writes: bias_probe_increase)"
    if not settings.enabled or not settings.by_group:
        return "and evaluate.by_group is off; set it to true, or leave the gate out"
    examples = [row.example for row in prepared.rows("test")]
    if not examples:
        return "and there are none; hold some out (data.test), or leave it out"
    if prepared.recipe.task.data.group or any(mentioned(told_in(example)) for example in examples):
        return ""
    return "and none of them mentions anybody; name the column that says whose they are (data.group), or leave it out"


def _no_probes(prepared: Prepared) -> str:
    if not prepared.layout.writes:
        return "and this one does not; leave it out (for a classifier: bias_gap_increase)"
    return "" if prepared.recipe.evaluate.enabled else "and `evaluate` is off; leave it out"
