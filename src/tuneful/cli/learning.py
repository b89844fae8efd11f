"""`tuneful learn` and `tuneful unlearn`: a progress bar, and what became of the tasks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tuneful.cli.fitting import INTERRUPTED, Bar, show
from tuneful.cli.show import console, errors, note, print_json
from tuneful.core.device import join_ranks
from tuneful.core.errors import InputError
from tuneful.core.types import Record
from tuneful.run.api import check_gates
from tuneful.run.exchange import undo
from tuneful.run.folder import RunFolder
from tuneful.run.forget import forget
from tuneful.run.loop import Interrupted
from tuneful.run.teach import teach


def learn_command(
    run: Path,
    data: str | None,
    *,
    name: str | None,
    overrides: Sequence[str],
    resume: bool,
    back: bool,
    as_json: bool,
    language: str,
    should_stop: Callable[[], bool],
) -> int:
    """The exit code."""
    join_ranks()
    if back:
        if data is not None or overrides or resume or name:
            raise InputError("--undo goes back to what the run was before it learned last; it takes nothing else")
        undo(run)
        console.print(f"{run} is what it was before; --undo once more brings the other one back", soft_wrap=True)
        return 0
    if data is None and not resume:
        raise InputError("what is to be learned? tuneful learn RUN DATA, where DATA is a file, a folder or a hub id")
    say = (lambda _: None) if as_json else note
    command = shlex.join(["tuneful", *sys.argv[1:]])
    records = teach(run, data, name=name, overrides=overrides, resume=resume, language=language, command=command,
                    should_stop=should_stop, say=say)  # fmt: skip
    return _followed(records, run, "learn", as_json, language)


def unlearn_command(
    run: Path,
    rows: str | None,
    *,
    overrides: Sequence[str],
    resume: bool,
    as_json: bool,
    language: str,
    should_stop: Callable[[], bool],
) -> int:
    """The exit code."""
    join_ranks()
    if rows is None and not resume:
        raise InputError("which rows are to be forgotten? tuneful unlearn RUN ROWS, where ROWS is a file of them")
    say = (lambda _: None) if as_json else note
    command = shlex.join(["tuneful", *sys.argv[1:]])
    records = forget(run, rows, overrides=overrides, resume=resume, language=language, command=command,
                      should_stop=should_stop, say=say)  # fmt: skip
    return _followed(records, run, "unlearn", as_json, language)


def _followed(records: Iterable[Record], run: Path, what: str, as_json: bool, language: str) -> int:
    """Shows the records as they come, and the report at the end."""
    try:
        with Bar(hidden=as_json) as bar:
            for record in records:
                bar.show(record)
    except Interrupted:
        again = shlex.join(["tuneful", what, str(run), "--resume"])
        errors.print(f"saved; {run} is what it was. Go on with: {again}", soft_wrap=True)
        return INTERRUPTED
    folder = RunFolder(run)
    report = folder.read_json(folder.report)
    print_json(report) if as_json else show(report, folder, language)
    check_gates(report)
    return 0
