"""`tuneful.fit` and `tuneful.load`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tuneful.core.device import join_ranks
from tuneful.core.errors import GateBroken, RecipeError
from tuneful.core.quantised import Kind
from tuneful.evaluation import merged
from tuneful.evaluation.verdict import wider
from tuneful.recipe import Recipe, from_mapping, from_yaml
from tuneful.run.folder import RunFolder, default_path
from tuneful.run.forget import forget
from tuneful.run.kinds import kinds_of
from tuneful.run.merging import Asked, merge_runs
from tuneful.run.objections import check_start
from tuneful.run.prepare import Prepared, prepare
from tuneful.run.session import run
from tuneful.run.teach import teach
from tuneful.run.tuned import Tuned, open_model

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder."""

    path: Path

    @property
    def report(self) -> dict[str, Any]:
        folder = RunFolder(self.path)
        return folder.read_json(folder.report)

    @property
    def helped(self) -> str:
        """ "yes", "no" or "unclear"."""
        return str(self.report["verdict"]["helped"])

    def load(self, *, quantise: Kind | None = None, task: str | None = None) -> Tuned:
        return load(self.path, quantise=quantise, task=task)


def fit(
    what: str | Path | Mapping[str, Any] | Recipe,
    *,
    model: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    language: str = "en",
    say: Say = lambda _: None,
) -> Run:
    """Tunes a model on data (a file, a folder, a hub id) or by a recipe (a .yaml file, a mapping, a Recipe).

    `settings` are dotted recipe paths. Raises InputError when the input cannot be used, and GateBroken, after the
    report is written, when a gate of the recipe does not hold. Under torchrun all ranks call it."""
    join_ranks()
    recipe = recipe_for(what, model=model, settings=settings or {})
    path = Path(out) if out is not None else default_path(recipe.name or Path(recipe.task.data.sources[0].path).stem)
    for _ in run(recipe, path, resume=resume, language=language, say=say):
        pass
    done = Run(path)
    check_gates(done.report)
    return done


def learn(
    run: str | Path | Run,
    data: str | Path,
    *,
    name: str | None = None,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    language: str = "en",
    say: Say = lambda _: None,
) -> Run:
    """Teaches a finished run one task more, in its own folder. Raises InputError where that cannot be, and GateBroken,
    after it has learned, when a gate does not hold."""
    path = run.path if isinstance(run, Run) else Path(run)
    overrides = [f"{place}={value}" for place, value in (settings or {}).items()]
    for _ in teach(path, str(data), name=name, overrides=overrides, resume=resume, language=language, say=say):
        pass
    done = Run(path)
    check_gates(done.report)
    return done


def unlearn(
    run: str | Path | Run,
    rows: str | Path,
    *,
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
    language: str = "en",
    say: Say = lambda _: None,
) -> Run:
    """Makes a finished run forget rows that it has learned, in its own folder; no version that knew them is kept.
    Raises InputError where that cannot be, and GateBroken, after it has forgotten, when a gate does not hold."""
    path = run.path if isinstance(run, Run) else Path(run)
    overrides = [f"{place}={value}" for place, value in (settings or {}).items()]
    for _ in forget(path, str(rows), overrides=overrides, resume=resume, language=language, say=say):
        pass
    done = Run(path)
    check_gates(done.report)
    return done


def merge(
    runs: Sequence[str | Path | Run],
    *,
    out: str | Path | None = None,
    how: str = "linear",
    weights: Sequence[float] | None = None,
    density: float | None = None,
    seed: int = 0,
    labels: Literal["shared"] | None = None,
    language: str = "en",
    say: Say = lambda _: None,
) -> Run:
    """Makes one run of finished runs of the same base model, without training. `weights` are what each run's change is
    multiplied by (None: so that it is their mean), `density` the share of it that `ties` and `dare_*` keep. Raises
    InputError where they cannot be one, and GateBroken, after the report is written, where the result is surely worse
    on some task than the worst of the runs that know it."""
    paths = [run.path if isinstance(run, Run) else Path(run) for run in runs]
    path = Path(out) if out is not None else default_path("merged")
    report = merge_runs(paths, path, Asked(how, weights, density, seed, labels), language=language, say=say)
    check_merged(report)
    return Run(path)


def check_merged(report: Mapping[str, Any]) -> None:
    """Raises GateBroken where merging did harm."""
    if worse := merged.lost(report["forgetting"]["merged"]["tasks"]):
        raise GateBroken(
            "the runs are merged, and the result is surely worse than the worst of those that know the task: "
            f"{', '.join(worse)}. Keep them apart, or let one learn what the other knows (tuneful learn)"
        )


def check(
    what: str | Path | Mapping[str, Any] | Recipe, *, model: str | None = None, say: Say = lambda _: None
) -> Prepared:
    """What a run would learn, without one. Raises InputError where a run would not start, and for tasks of several
    kinds, each of which is prepared by itself."""
    recipe = recipe_for(what, model=model, settings={})
    if kinds_of(recipe):
        raise RecipeError(["tasks: these are of several kinds, each prepared by itself; `tuneful check` shows all"])
    prepared = prepare(recipe, say)
    check_start(prepared, say)
    return prepared


def load(name: str | Path, *, quantise: Kind | None = None, task: str | None = None) -> Tuned:
    """A run folder or any model, ready to be asked; its layers quantised if memory is short. Of a run whose tasks have
    adapters of their own, that of `task`; where none is named, each text finds its own."""
    return open_model(str(name), quantise=quantise, task=task, routes=True)


def recipe_for(
    what: str | Path | Mapping[str, Any] | Recipe, *, model: str | None, settings: Mapping[str, Any]
) -> Recipe:
    recipe, _ = recipe_and_notes(what, model=model, overrides=[f"{path}={value}" for path, value in settings.items()])
    return recipe


def recipe_and_notes(
    what: str | Path | Mapping[str, Any] | Recipe, *, model: str | None, overrides: list[str]
) -> tuple[Recipe, list[str]]:
    """Anything a person may hand over, as a recipe, and what there is to say about it."""
    if model is not None:
        overrides = [f"model={model}", *overrides]
    if isinstance(what, Recipe):
        return from_mapping(what.model_dump(exclude_unset=True), overrides) if overrides else (what, [])
    if isinstance(what, Mapping):
        return from_mapping(what, overrides)
    if Path(what).suffix in (".yaml", ".yml") or Path(what).name == "recipe.lock.json":
        return from_yaml(Path(what), overrides)
    return from_mapping({"data": {"source": str(what)}}, overrides)


def check_gates(report: Mapping[str, Any]) -> None:
    broken = [name for name, state in report["verdict"]["gates"].items() if state == "broken"]
    if broken:
        told = [_broken(name, report) for name in broken]
        raise GateBroken(f"the run ended, and these gates do not hold: {', '.join(told)}")


def _broken(gate: str, report: Mapping[str, Any]) -> str:
    """A gate, and what of it does not hold where that is known."""
    if kinds := report.get("kinds"):
        return f"{gate} (of {', '.join(name for name, kind in kinds.items() if kind['gates'].get(gate) == 'broken')})"
    return f"{gate} ({_why_wider(report)})" if gate == "bias_gap_increase" else gate


def _why_wider(report: Mapping[str, Any]) -> str:
    limit = report["provenance"]["recipe"]["gates"]["bias_gap_increase"]
    found = [f"{name} {gap['delta']:+.3g}" for name, gap in wider(report["bias"], limit)]
    return ", ".join(found) or "no gap could be measured"
