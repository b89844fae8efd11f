"""What reasoning-gym does for us in a process of its own: `reasoning_gym.py` starts this file as a script.

Some of its tasks call `eval` on what a model wrote, others have sympy read it. So replies are scored behind the walls
of `sandboxed.py`, where there is no network, no new process and no writing, and a sum that never ends can be killed.

It reads a request a line and writes an answer a line, both JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import suppress
from typing import Any

MEMORY = 4 << 30


def main() -> None:
    started: dict[str, Any] = json.loads(sys.stdin.readline())
    import sandboxed  # type: ignore[import-not-found]  # stands beside this file, which is where Python looks first

    sys.path[:] = started["path"]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the library prints is no answer
    import reasoning_gym

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if sys.platform == "linux":
        sandboxed.fence(os.getcwd(), started["path"])
        sandboxed.seal()
    else:
        sandboxed.watch(os.getcwd())
    made: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            said = {"said": _answer(reasoning_gym, made, json.loads(line))}
        except Exception as error:  # noqa: BLE001 - whatever it is, who asked must hear of it
            said = {"error": f"{type(error).__name__}: {error}"[:300]}
        answers.write(json.dumps(said) + "\n")
        answers.flush()


def _answer(library: Any, made: dict[str, Any], asked: dict[str, Any]) -> Any:
    written = json.dumps(asked["of"], sort_keys=True)
    if written not in made:
        made.clear()  # one at a time is kept: some are large
        made[written] = library.create_dataset(**asked["of"])
    rows = made[written]
    if "index" not in asked:
        return [{"question": row["question"], "answer": row["answer"]} for row in rows]
    return float(rows.score_answer(asked["reply"], rows[asked["index"]]))


if __name__ == "__main__":
    main()
