"""Code that a model might write, run apart: what it cannot do, what it cannot pretend, and what it still can."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tuneful.environments.sandbox import SCRIPT, Limits, run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the sandbox is for Linux and macOS")
linux = pytest.mark.skipif(sys.platform != "linux", reason="these walls are those of Linux")

TESTS = ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]
ADD = "\ndef add(a, b):\n    return a + b\n"
SMALL = Limits(seconds=1, megabytes=256)


def test_right_wrong_and_half_right() -> None:
    assert run(ADD, TESTS).passed == (True, True)
    assert run("def add(a, b): return 3", TESTS).passed == (True, False)
    verdict = run("def add(a, b): return a - b", TESTS)
    assert verdict.passed == (False, False)
    assert verdict.faults == ("AssertionError:", "AssertionError:")
    assert run("def add(a, b) return", TESTS).faults[0].startswith("the code raised SyntaxError")
    for text in ("a" + "[0]" * 200_000, "-" * 100_000 + "1", "(" * 100_000, "\0", "\ud800"):
        assert run(text, TESTS).passed == (False, False)
    with pytest.raises(SyntaxError):
        run(ADD, ["assert"])


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("import os\nwhile True: os.fork()", "the sandbox refuses os.fork"),
        ("import subprocess\nsubprocess.run(['ls'])", "the sandbox refuses subprocess.Popen"),
        ("import os\nos.system('ls')", "the sandbox refuses os.system"),
        ("import socket\nsocket.socket()", "the sandbox refuses socket.__new__"),
        ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1')", "the sandbox refuses urllib.Request"),
        ("import os\nos.kill(os.getppid(), 9)", "the sandbox refuses os.kill"),
        ("import ctypes\nctypes.CDLL(None)", "the sandbox refuses ctypes.dlopen"),
        ("open('/tmp/tuneful-was-here', 'w')", "the sandbox refuses to write outside its folder: open"),
        ("open('../tuneful-was-here', 'a')", "the sandbox refuses to write outside its folder: open"),
        ("import os\nos.remove('/tmp/tuneful-was-here')", "the sandbox refuses to write outside its folder: os.remove"),
        ("import resource as r\nr.setrlimit(r.RLIMIT_CPU, (99, 99))", "the sandbox refuses resource.setrlimit"),
        ("import os\nopen('a', 'w')\nos.rename('a', '/tmp/tuneful-was-here')", "outside its folder: os.rename"),
        ("x = bytearray(10 ** 10)", "MemoryError"),
        ("def f(n): return f(n + 1)\nf(0)", "RecursionError"),
        ("import numpy", "No module named 'numpy'"),
        ("input()", "EOFError"),
    ],
)  # fmt: skip
def test_refused(code: str, fault: str) -> None:
    verdict = run(code + ADD, TESTS, SMALL)
    assert verdict.passed == (False, False)
    assert fault in verdict.faults[0]
    assert not Path("/tmp/tuneful-was-here").exists()


def test_what_never_ends_is_ended() -> None:
    start = time.monotonic()
    assert "processor time" in run("while True: pass", TESTS, SMALL).faults[1]
    assert time.monotonic() - start < SMALL.clock + 1
    looping = run("def add(a, b):\n    while b == 2 and a == 2: pass\n    return a + b", TESTS, SMALL)
    assert looping.passed == (True, False), "what passed before is kept"


def test_sleeping_is_ended_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneful.environments.sandbox.STARTING", -2.0)
    assert run("import time\ntime.sleep(60)", TESTS, SMALL).faults[0] == "it took more than 1 s"


def test_deep_recursion_without_a_limit_is_no_crash_of_ours() -> None:
    code = "import sys\nsys.setrecursionlimit(10 ** 9)\ndef add(a, b): return add(a, b)"
    assert run(code, TESTS, SMALL).passed == (False, False)


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "def add(a, b): raise SystemExit(0)",
        "import os\ndef add(a, b): os._exit(0)",
        "print('0 passed', '1 passed', 'OK', 'passed')",
        "import os\nfor pipe in range(1, 32):\n  try: os.write(pipe, b'x 0 passed\\n 0 passed\\n0 passed\\n')\n  except OSError: pass",
        "import builtins, os\nbuiltins.exec = builtins.compile = lambda *a, **k: None\nos.write = lambda *a: None",
    ],
)  # fmt: skip
def test_success_cannot_be_pretended(code: str) -> None:
    assert run(code, TESTS, SMALL).passed == (False, False)


def test_what_honest_code_needs_is_there() -> None:
    code = (
        "import collections, dataclasses, datetime, decimal, functools, hashlib, heapq, itertools, json, math, os, random, re, "
        "threading, typing, unittest\n"
        "open('mine.txt', 'w').write('x' * 10)\n"
        "os.rename('mine.txt', 'ours.txt')\n"
        "thread = threading.Thread(target=print, args=('beside',))\nthread.start()\nthread.join()\n"
        "print([name for name in os.environ if name != 'LC_CTYPE'], os.listdir('.'))\n" + ADD
    )
    verdict = run(code, TESTS)
    assert verdict.passed == (True, True), verdict
    assert verdict.printed == "beside\n[] ['ours.txt']\n"


def test_what_is_printed_is_cut() -> None:
    assert run("print('é' * 10000)" + ADD, TESTS).passed == (True, True)
    assert run("print('é' * 10000)" + ADD, TESTS).printed == "é" * 2000
    assert run("while True: print('x' * 1000)", TESTS, SMALL).passed == (False, False)


WALLS = """
import os, socket, sys, threading
sys.path.insert(0, {script!r})
import sandboxed
os.chdir({folder!r})
sandboxed.{wall}
{code}
"""


def behind(wall: str, code: str, folder: Path) -> str:
    """What comes of the code behind one wall alone: "" or the last line of its error."""
    program = WALLS.format(script=str(SCRIPT.parent), folder=str(folder), wall=wall, code=code)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    return done.stderr.strip().split("\n")[-1]


@linux
@pytest.mark.parametrize(
    "code",
    ["os.fork()", "os.execv('/bin/true', ['true'])", "os.posix_spawn('/bin/true', ['true'], {})", "socket.socket()",
     "os.kill(os.getppid(), 0)", "os.chmod('.', 0o700)"],
)  # fmt: skip
def test_the_kernel_refuses_calls_by_itself(code: str, tmp_path: Path) -> None:
    if behind(
        "seal()", "print(open('/proc/self/status').read().split('Seccomp:')[1].split()[0] == '2' or 1/0)", tmp_path
    ):
        pytest.skip("this kernel or container has no seccomp")
    assert "Operation not permitted" in behind("seal()", code, tmp_path)
    assert behind("seal()", "t = threading.Thread(target=print); t.start(); t.join(); open('a', 'w')", tmp_path) == ""


@linux
@pytest.mark.parametrize(
    "code", ["open('/tmp/tuneful-was-here', 'w')", "open('/etc/hostname')", "os.listdir('/')", "os.remove('{kept}')"]
)
def test_the_kernel_refuses_places_by_itself(code: str, tmp_path: Path) -> None:
    kept, own = tmp_path / "kept", tmp_path / "own"
    kept.touch()
    own.mkdir()
    fence = f"fence({str(own)!r})"
    if behind(fence, "import ctypes; ctypes.CDLL(None).syscall(444, None, 0, 1) > 0 or 1/0", own):
        pytest.skip("this kernel or container has no Landlock")
    assert "Permission denied" in behind(fence, code.format(kept=kept), own)
    assert kept.exists()
    assert behind(fence, "open('a', 'w').write('x'); os.rename('a', 'b'); os.mkdir('c'); import decimal", own) == ""
