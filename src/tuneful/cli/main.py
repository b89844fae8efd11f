"""The `tuneful` command."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tuneful import __version__
from tuneful.cli.merging import merge
from tuneful.cli.quiet import quiet_libraries
from tuneful.cli.shelf import models, runs
from tuneful.cli.stop import Stop
from tuneful.core.errors import InputError, TunefulError

INTERRUPTED = 130  # what a shell expects after Ctrl-C
UNWANTED = (
    "toxicity", "severe_toxicity", "insult", "identity_attack", "threat", "profanity", "sexual", "stereotype",
)  # fmt: skip
"""As `models/selfdebias.py` knows them, which would bring torch."""
Command = Callable[..., Any]


class Tool(click.Group):
    """Commands in the order they are written, and errors as messages with the right exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except TunefulError as error:
            if not error.told:
                click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Tool, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="tuneful %(version)s")
def main() -> None:
    """Fine-tune a pretrained model on your own data, and see with numbers what that did.

    \b
      tuneful check data.csv      what would be learned, and how long it takes
      tuneful fit data.csv        tune, measure, report
      tuneful chat runs/...       talk to the result
    """


def recipe_options(command: Command) -> Command:
    """What every command takes that works on data or a recipe."""
    for option in (
        click.option("--model", metavar="M", help="Hub id, folder or embedded name (tuneful models list)."),
        click.option("--memory", metavar="4GB", help="The most memory to plan for. Default: what is free."),
        click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Any dotted recipe path."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text."),
    ):
        command = option(command)
    return command


def _all(overrides: tuple[str, ...], memory: str | None, labels: str | None = None, **data: str | None) -> list[str]:
    """Options that are short for a --set; `data` are those named as the recipe's data settings are."""
    found = [] if memory is None else [f"memory={memory}"]
    if labels is not None:
        found.append(f"data.labels={json.dumps(labels_in(labels))}")
    found += [f"data.{name}={json.dumps(value)}" for name, value in data.items() if value is not None]
    return [*overrides, *found]


def labels_in(text: str) -> list[str]:
    """`a, b` -> names, also with the commas of Chinese. Raises InputError where they are not two or more, all
    different."""
    commas = "[,，]" if set(text) & set(",，") else "、"
    names = [name.strip() for name in re.split(commas, text) if name.strip()]
    if len(set(names)) < max(2, len(names)):
        raise InputError(f"--labels: expected at least two names, all different; found {', '.join(names) or 'none'}")
    return names


def spoken(chinese: str, words: str) -> Callable[[Command], Command]:
    """`--language`; `chinese` is how whoever asks calls it, whichever way it was written."""
    return click.option(
        "--language", type=click.Choice(["en", "zh-TW", "zh"]), help=words,
        callback=lambda _context, _option, given: chinese if given in ("zh", "zh-TW") else given,
    )  # fmt: skip


def how_to_write(command: Command) -> Command:
    """What `predict` and `chat` share."""
    for option in (
        spoken("zh-TW", "In which --less is told. Default: by row."),
        click.option("--less", metavar="A,B", help=f"Write with less of: {', '.join(UNWANTED)}; or all."),
        click.option(
            "--task", metavar="NAME", help="Whose adapter answers, where tasks have their own. Default: found."
        ),
        click.option("--stop", "stops", multiple=True, help="An answer ends before this text; may be given again."),
        click.option("--temperature", type=float, default=0.0, show_default=True, help="0 takes the likeliest token."),
        click.option("--new-tokens", type=int, default=256, show_default=True, help="Longest answer."),
    ):
        command = option(command)
    return command


@main.command()
@click.argument("target")
@recipe_options
@click.option("--labels", metavar="A,B,C", help="Names of the classes, for texts without (enough) labels.")
@click.option("--unlabelled", metavar="FILE", help="Texts without labels, to learn from beside TARGET.")
@click.option("--teacher", metavar="RUN", help="A run or model that labels texts which have no label.")
@click.option("--generated", metavar="FILE", help="Rows that a model wrote, learned if that helps; see synthesise.")
@click.option("--patch", metavar="FILE", help="Suggestions of check --coach; the accepted ones are applied.")
@click.option("--out", type=click.Path(path_type=Path), help="The run folder. Default: runs/DATE-NAME.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped (TARGET or --out is its folder).")
@click.option("--lang", "language", type=click.Choice(["en", "zh-TW"]), default="en", help="Of the report.")
@click.option("--processes", type=click.IntRange(1), default=1, help="Learn with several; the same as under torchrun.")
@quiet_libraries
def fit(
    target: str,
    model: str | None,
    memory: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    labels: str | None,
    unlabelled: str | None,
    generated: str | None,
    patch: str | None,
    teacher: str | None,
    out: Path | None,
    resume: bool,
    language: str,
    processes: int,
) -> None:
    """Tune a model. TARGET is data (a file, a folder, a hub id) or a recipe (.yaml)."""
    if processes > 1:
        from tuneful.cli.several import fit_in_processes

        sys.exit(fit_in_processes(processes, sys.argv[1:]))
    from tuneful.cli.fitting import fit_command

    stop = Stop()
    signal.signal(signal.SIGINT, stop)
    given = _all(overrides, memory, labels, unlabelled=unlabelled, generated=generated, teacher=teacher,
                 patch=patch)  # fmt: skip
    code = fit_command(
        target, model=model, overrides=given, as_json=as_json, out=out, resume=resume, language=language,
        should_stop=stop.asked,
    )  # fmt: skip
    sys.exit(code)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", required=False)
@click.option("--name", metavar="TASK", help="What the new task is called. Default: the name of the file.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change any recipe setting.")
@click.option("--resume", is_flag=True, help="Go on with learning that was stopped; DATA is known then.")
@click.option("--undo", "back", is_flag=True, help="Go back to what the run was before it learned last.")
@click.option("--lang", "language", type=click.Choice(["en", "zh-TW"]), default="en", help="Of the report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@quiet_libraries
def learn(overrides: tuple[str, ...], **given: Any) -> None:
    """Teach a finished RUN one more task, so that it keeps those before; its folder then holds the new model."""
    from tuneful.cli.learning import learn_command

    stop = Stop()
    signal.signal(signal.SIGINT, stop)
    sys.exit(learn_command(overrides=overrides, should_stop=stop.asked, **given))


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("rows", required=False)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Change any recipe setting.")
@click.option("--resume", is_flag=True, help="Go on with unlearning that was stopped; ROWS are known then.")
@click.option("--lang", "language", type=click.Choice(["en", "zh-TW"]), default="en", help="Of the report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@quiet_libraries
def unlearn(overrides: tuple[str, ...], **given: Any) -> None:
    """Make a finished RUN forget ROWS that it has learned, and say whether it has; no version that knew them is
    kept."""
    from tuneful.cli.learning import unlearn_command

    stop = Stop()
    signal.signal(signal.SIGINT, stop)
    sys.exit(unlearn_command(overrides=overrides, should_stop=stop.asked, **given))


@main.command()
@click.argument("target")
@recipe_options
@click.option("--coach", is_flag=True, help="Look for wrong labels, repeats, leaks, odd rows, and who is in the data.")
@click.option("--patch", type=click.Path(path_type=Path), help="Write the coach's suggestions, one JSON line each.")
@click.option("--page", type=click.Path(path_type=Path), help="Write what the coach found as a web page with a map.")
@click.option("--encoder", metavar="NAME", help="Encoder that reads the rows for the coach.")
@click.option("--lang", "language", type=click.Choice(["en", "zh-TW"]), default="en", help="Of the page and reasons.")
@click.option("--augment", is_flag=True, help="Show rows before and after what --set augment=... does to them.")
@quiet_libraries
def check(
    target: str,
    model: str | None,
    memory: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    augment: bool,
    **coached: Any,
) -> None:
    """Label X-ray and plan: what would be learned, token by token, and what it would cost. Starts nothing."""
    from tuneful.cli.checking import check_command
    from tuneful.cli.coaching import asked

    wanted, given = asked(**coached), _all(overrides, memory)
    sys.exit(check_command(target, model=model, overrides=given, as_json=as_json, coaching=wanted, augment=augment))


@main.command("eval")
@click.argument("model_or_run")
@click.argument("data")
@click.option("--column", "columns", multiple=True, metavar="PART=COLUMN", help="For example label=category.")
@click.option("--generate", type=int, default=100, show_default=True, help="Rows a generator answers in full.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@quiet_libraries
def evaluate(model_or_run: str, data: str, columns: tuple[str, ...], generate: int, as_json: bool) -> None:
    """Measure a model or run on DATA, against the base model, a k-shot prompt and a constant answer."""
    from tuneful.cli.using import eval_command

    eval_command(model_or_run, data, columns=columns, generate=generate, as_json=as_json)


@main.command()
@click.argument("model_or_run")
@click.argument("data", required=False)
@click.option("--group", metavar="COLUMN", help="Column of DATA that says whose row each is.")
@click.option("--column", "columns", multiple=True, metavar="PART=COLUMN", help="For example label=toxic.")
@click.option(
    "--probe", "probes", multiple=True, metavar="NAME[=VALUE]",
    help="For example crows_pairs=pairs.csv, or continuations=JUDGE,bad=rude.",
)  # fmt: skip
@click.option("--rows", type=click.IntRange(1), help="Questions of a probe, at most.")
@spoken("zh", "Of the built-in probe. Default: en.")
@click.option("--mitigate", is_flag=True, help="Try ways to make the gap between groups of a run smaller.")
@click.option("--budget", metavar="20m", help="Time for --mitigate. Default: as much as all ways take.")
@click.option("--measure", metavar="NAME", help="Gap for --mitigate. Default: equalised_odds_difference.")
@click.option("--lang", type=click.Choice(["en", "zh-TW"]), help="Of the page of --mitigate. Default: en.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@quiet_libraries
def audit(model_or_run: str, data: str | None, mitigate: bool, **asked: Any) -> None:
    """Bias: what a model that writes finds likelier to be said of whom, how a classifier treats groups in DATA, or what
    would make a run fairer."""
    from tuneful.cli.auditing import audit_command, mitigate_command

    if mitigate:
        stop = Stop()
        signal.signal(signal.SIGINT, stop)
        sys.exit(mitigate_command(model_or_run, data, should_stop=stop.asked, **asked))
    audit_command(model_or_run, data, **asked)


@main.command()
@click.argument("model_or_run")
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path), help="Write here instead of printing.")
@click.option("--column", help="Column that holds the text or the request.")
@click.option("--group", metavar="COLUMN", help="Column that says whose row each is, for a run with thresholds.")
@click.option("--labels", metavar="A,B,C", help="Tell texts apart by these names; the model need not be tuned.")
@click.option("--shots", metavar="DATA", help="Show a model that writes the rows of DATA nearest to each request.")
@click.option("--shown", type=click.IntRange(1), help="How many of them. Default: 4.")
@click.option("--best-of", type=click.IntRange(2), metavar="N", help="Draw N answers a row; --judge picks one.")
@click.option("--judge", metavar="RUN", help="A run that learned reward_model, for --best-of.")
@how_to_write
@quiet_libraries
def predict(model_or_run: str, source: str, labels: str | None, new_tokens: int, **given: Any) -> None:
    """Answers or labels for every row of SOURCE (a file, or - for lines on standard input), one JSON object a line."""
    from tuneful.cli.using import predict_command

    names = None if labels is None else labels_in(labels)
    predict_command(model_or_run, source, labels=names, limit=new_tokens, **given)


@main.command()
@click.argument("source")
@click.option("--labels", metavar="A,B,C", help="Names of the classes. Default: whatever is typed.")
@click.option("--model", metavar="M", help="The encoder that reads the texts. Default: by their language.")
@click.option("--column", help="Column that holds the text.")
@click.option("--count", type=click.IntRange(1), default=20, show_default=True, help="How many labels are asked for.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("labelled.jsonl"), show_default=True)
@click.option("--page", is_flag=True, help="Ask in a browser, on a page of this computer alone.")
@click.option("--port", type=click.IntRange(0, 65535), help="Of the page. Default: any that is free.")
@click.option("--json", "as_json", is_flag=True, help="Print the texts to label next, and ask nothing.")
@quiet_libraries
def label(source: str, labels: str | None, **given: Any) -> None:
    """Label texts of SOURCE by hand, those that teach most first. Goes on where --out stands."""
    from tuneful.cli.labelling import label_command

    label_command(source, labels=labels_in(labels) if labels else [], **given)


@main.command()
@click.argument("model_or_run")
@click.option("--system", help="A system message to begin with.")
@how_to_write
@quiet_libraries
def chat(model_or_run: str, new_tokens: int, **given: Any) -> None:
    """Talk to a model or run in the terminal; an empty line ends."""
    from tuneful.cli.using import chat_command

    chat_command(model_or_run, limit=new_tokens, **given)


@main.command()
@click.argument("data")
@click.option("--model", metavar="NAME", help="Model that writes: of the endpoint, or on this computer.")
@click.option("--endpoint", metavar="URL", help="Address that speaks as OpenAI's, such as http://localhost:8000/v1.")
@click.option("--key-from", metavar="VARIABLE", help="Environment variable that holds the endpoint's key.")
@click.option("--each", type=click.IntRange(1), help="Labelled texts to ask for, a class. Default: 20.")
@click.option("--count", type=click.IntRange(1), help="Requests with answers to ask for, in all. Default: 100.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("generated.jsonl"), show_default=True,
              help="File to write; answers are kept beside it, so that the same command goes on.")  # fmt: skip
@click.option("--column", "columns", multiple=True, metavar="PART=COLUMN", help="For example label=category.")
@click.option("--encoder", metavar="NAME", help="Encoder that sifts labelled texts.")
@click.option(
    "--judge", metavar="NAME", help="Model here that asks whether a request helps its answer; none asks nobody."
)
@click.option("--temperature", type=click.FloatRange(0), default=0.9, show_default=True, help="0 = likeliest words.")
@click.option("--seed", type=int, default=0, show_default=True, help="Which rows a request shows.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@quiet_libraries
def synthesise(data: str, **given: Any) -> None:
    """Let a model write further labelled texts, or requests with answers, like those of DATA; keep the good ones."""
    from tuneful.cli.synthesising import synthesise_command

    synthesise_command(data, **given)


@main.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def compare(runs: tuple[Path, ...], as_json: bool) -> None:
    """Runs against the first of them, paired on the test rows they share, with intervals."""
    from tuneful.cli.using import compare_command

    compare_command(runs, as_json=as_json)


for command in (merge, models, runs):
    main.add_command(command)


@main.command()
@quiet_libraries
def schema() -> None:
    """JSON Schema of the recipe, for editors."""
    from tuneful.recipe import schema as recipe_schema

    click.echo(json.dumps(recipe_schema(), indent=2))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--speed", is_flag=True, help="Measure the products of a model, and what they allow.")
@click.option("--model", default="smollm2-135m", show_default=True, help="Whose products, with --speed.")
@quiet_libraries
def doctor(as_json: bool, speed: bool, model: str) -> None:
    """What this computer and installation can do."""
    from tuneful.cli.around import doctor_command, speed_command

    if speed:
        speed_command(model, as_json=as_json)
    else:
        doctor_command(as_json=as_json)
