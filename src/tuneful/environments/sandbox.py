"""Code that a model wrote, run apart from everything else.

It is a process of its own, with no network, no further processes, no environment variables, nothing on its standard
input, an empty folder as its place, Python's standard library alone, and limits on processor time, the clock, memory
and the size of files; see `sandboxed.py` for how. **This is no security boundary against somebody who wants out.** The
code and its tests share one process, so code that looks for the judge's own variables can forge a verdict; the kernel
is that of this computer; how many small files are written is not limited. It stops what a model writes by mistake or by
trial. Who must expect malice runs all of Tuneful in a container or a virtual machine.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SCRIPT = Path(__file__).with_name("sandboxed.py")
KEPT = 2000  # characters of what the code printed
STARTING = 2.0  # seconds by the clock that Python may take to begin


@dataclass(frozen=True, slots=True)
class Limits:
    """What the code may use up."""

    seconds: int = 4  # of a processor; three times that by the clock
    megabytes: int = 512

    @property
    def clock(self) -> float:
        return 3 * self.seconds + STARTING


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of each test, in order, and why for those that did not pass."""

    passed: tuple[bool, ...]
    faults: tuple[str, ...]
    printed: str  # the beginning of it


def run(code: str, tests: Sequence[str], limits: Limits = Limits()) -> Verdict:
    """Run the code and then each test, in the names that the code left. A test passes if it raises nothing. Raises
    SyntaxError for tests that are no Python. The code is not even compiled here, which a long text can crash."""
    for number, test in enumerate(tests):
        compile(test, f"test {number + 1}", "exec", dont_inherit=True)
    nonce = secrets.token_hex(16)
    job = {"code": code, "tests": list(tests), "nonce": nonce, "seconds": limits.seconds, "megabytes": limits.megabytes}
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as printed:
        asked.write(json.dumps(job).encode())
        asked.seek(0)
        lines, ending = _started(asked, printed, limits.clock)
        printed.seek(0)
        told = printed.read(4 * KEPT).decode("utf-8", "replace")[:KEPT]
    return _verdict(lines, ending, len(tests), nonce, told)


def _started(asked: IO[bytes], printed: IO[bytes], clock: float) -> tuple[str, str]:
    """What the process wrote to its pipe, and how it ended, "" if by itself."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    command = [sys.executable, "-I", "-S", "-B", "-X", "utf8", str(SCRIPT), str(writes)]
    with tempfile.TemporaryDirectory(prefix="tuneful-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            command, stdin=asked, stdout=printed, stderr=printed, pass_fds=(writes,), cwd=folder, env={},
            start_new_session=True,
        )  # fmt: skip
        os.close(writes)
        try:
            ending = _ending(process.wait(timeout=clock))
        except subprocess.TimeoutExpired:
            ending = f"it took more than {clock:g} s"
        finally:
            process.kill()
            process.wait()
            with suppress(BlockingIOError):
                lines = b""
                lines = os.read(reads, 1 << 16)
            os.close(reads)
    return lines.decode("utf-8", "replace"), ending


def _ending(code: int) -> str:
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "it used up its processor time or memory"
    return "" if code == 0 else f"it ended before its tests, with {code}"


def _verdict(lines: str, ending: str, count: int, nonce: str, printed: str) -> Verdict:
    """Only a line with the word that was made for this run says that a test passed, and the first one about it."""
    found: dict[int, str] = {}
    for line in lines.split("\n"):
        word, _, rest = line.partition(" ")
        number, _, told = rest.partition(" ")
        if word == nonce and number.isdigit():
            found.setdefault(int(number), told)
    said = [found.get(number, f"failed {ending or 'it ended before this test'}") for number in range(count)]
    passed = tuple(one == "passed" for one in said)
    return Verdict(passed, tuple("" if one == "passed" else one.removeprefix("failed ") for one in said), printed)
