"""An address on this computer that speaks as OpenAI's chat completions do, for tests."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from work import MOODS


class Server:
    """Answers as `answer` does: a text, or a number for a status, or bytes for whatever is no chat completion."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: Any = self.helpful
        self.half = 0  # answers that are to break off
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append({**body, "key": self.headers.get("Authorization"), "path": self.path})
                found = outer.answer(body)
                status, told = (found, b"no") if isinstance(found, int) else (200, found)
                if isinstance(told, str):
                    told = json.dumps({"choices": [{"message": {"content": told}}]}).encode()
                with suppress(OSError):  # who asked may not have waited
                    self.send_response(status)
                    if outer.half:
                        outer.half -= 1
                        self.send_header("Content-Length", str(len(told) + 9))
                    self.end_headers()
                    self.wfile.write(told)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def helpful(self, body: dict[str, Any]) -> str:
        """Lines of words of the mood that is asked for, each once."""
        mood = next(name for name in MOODS if f'"{name}"' in body["messages"][0]["content"])
        words, turn = MOODS[mood].split(), body["seed"]
        return "\n".join(
            f"{n + 1}. {words[n % 6]} {words[(n + turn + 1) % 6]} {words[(n + 2) % 6]} {mood}{turn}{n}"
            for n in range(5)
        )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().split(b"\n")[:-1]]
