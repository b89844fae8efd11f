"""`tuneful fit --processes N`: torchrun, started from here."""

from __future__ import annotations

from collections.abc import Sequence

from tuneful.core.device import share_cores

SECONDS_TO_SAVE = 3600  # after Ctrl-C, before torchrun ends the processes by force


def fit_in_processes(processes: int, arguments: Sequence[str]) -> int:
    """The exit code: that of the process that ended first with another than 0."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    share_cores(processes)
    how = ["--standalone", "--nproc-per-node", str(processes), "--shutdown-timeout", str(SECONDS_TO_SAVE)]
    try:
        torchrun([*how, "-m", "tuneful", *_without_processes(arguments)])
    except ChildFailedError as error:
        return int(error.get_first_failure()[1].exitcode)
    except SignalException:
        return 130
    return 0


def _without_processes(arguments: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if not skip and argument != "--processes" and not argument.startswith("--processes="):
            kept.append(argument)
        skip = argument == "--processes" and not skip
    return kept
