"""`tuneful merge`: runs of one model become one, and what that did to each task."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from tuneful.cli.quiet import quiet_libraries
from tuneful.core.errors import GateBroken, InputError

HOW = ("linear", "ties", "dare_ties", "dare_linear", "svd")
"""As `adapters/merging.py` knows them, which would bring torch."""


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The new run's folder. Default: runs/DATE-merged.")
@click.option("--how", type=click.Choice(HOW), default="linear", show_default=True, help="How changes are added up.")
@click.option("--weights", metavar="1,1", help="What each run's change is multiplied by. Default: the mean.")
@click.option("--density", type=float, help="Share of each change that ties and dare keep. Default: 0.2.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what dare keeps.")
@click.option("--labels", type=click.Choice(["shared"]), help="Labels that some runs have in common mean the same.")
@click.option("--lang", "language", type=click.Choice(["en", "zh-TW"]), default="en", help="Of the report.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@quiet_libraries
def merge(
    runs: tuple[Path, ...],
    out: Path | None,
    how: str,
    weights: str | None,
    density: float | None,
    seed: int,
    labels: str | None,
    language: str,
    as_json: bool,
) -> None:
    """Make one run of finished RUNS of the same base model, measured beside them. Learning one task after the other
    (learn) or all at once (fit) is usually better; this needs no training."""
    from tuneful.cli.fitting import show
    from tuneful.cli.show import note, print_json
    from tuneful.run.api import check_merged
    from tuneful.run.folder import RunFolder, default_path
    from tuneful.run.merging import Asked, merge_runs

    asked = Asked(how, None if weights is None else numbers_in(weights), density, seed, labels)
    path = out or default_path("merged")
    command = shlex.join(["tuneful", *sys.argv[1:]])
    say = (lambda _: None) if as_json else note
    report = merge_runs(runs, path, asked, language=language, command=command, say=say)
    print_json(report) if as_json else show(report, RunFolder(path), language)
    try:
        check_merged(report)
    except GateBroken as error:
        error.told = not as_json  # the verdict has said so
        raise


def numbers_in(text: str) -> list[float]:
    """`1,0.5` -> numbers. Raises InputError."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--weights: found '{text}', expected a number for each run, such as 1,0.5") from None
