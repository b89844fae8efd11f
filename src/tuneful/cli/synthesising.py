"""`tuneful synthesise`: further rows, labelled texts or requests with answers, written by a model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tuneful.cli.show import console, named_columns, note, print_json
from tuneful.core.device import secret
from tuneful.core.endpoint import Endpoint
from tuneful.core.errors import InputError
from tuneful.run.embedded import WRITER
from tuneful.run.instruct import instruct
from tuneful.run.synthesise import Synthesised, given_in, synthesise
from tuneful.run.tuned import Tuned, open_model
from tuneful.run.writers import Local, Remote, Writer

TEXTS_EACH, REQUESTS = 20, 100  # asked for where nobody says: texts a class, requests in all


def synthesise_command(
    source: str,
    *,
    model: str | None,
    endpoint: str | None,
    key_from: str | None,
    each: int | None,
    count: int | None,
    out: Path,
    encoder: str | None,
    judge: str | None,
    temperature: float,
    seed: int,
    columns: Sequence[str],
    as_json: bool,
) -> None:
    if out.suffix not in (".jsonl", ".ndjson"):
        raise InputError(f"--out {out}: one JSON object a line is written; name a .jsonl file")
    named = named_columns(columns)
    given = given_in(source, named, seed, note)
    labelled = given.form.name == "labelled"
    _refuse_unused(source, labelled, {"--count": count, "--judge": judge}, {"--each": each, "--encoder": encoder})
    writer = _writer(model, endpoint, key_from, temperature)
    if labelled:
        found = synthesise(given, out, writer, count=each or TEXTS_EACH, encoder=encoder, say=note)
    else:
        found = instruct(given, out, writer, count=count or REQUESTS, judge=_judge(writer, judge), say=note)
    if as_json:
        print_json({"requests": found.requests, "texts": found.texts, "kept": found.kept,
                    "refused": dict(found.refused), "out": str(out)})  # fmt: skip
        return
    _tell(found, out, source, named)


def _refuse_unused(
    source: str, labelled: bool, of_requests: Mapping[str, object], of_labels: Mapping[str, object]
) -> None:
    for option, given in (of_requests if labelled else of_labels).items():
        if given is not None:
            here, there = ("texts with labels", "requests with answers")[:: 1 if labelled else -1]
            raise InputError(f"{option} is for {there}, and {source} holds {here}; leave it out")


def _writer(model: str | None, endpoint: str | None, key_from: str | None, temperature: float) -> Writer:
    if endpoint is None:
        name = model or WRITER
        return Local(name, that_writes(name, "--model"), temperature)
    if model is None:
        raise InputError("--endpoint: say which of its models is asked, with --model")
    if not endpoint.startswith(("http://", "https://")):
        raise InputError(f"--endpoint {endpoint}: expected an address like http://localhost:8000/v1")
    key = secret(key_from) if key_from else None
    if key_from and key is None:
        raise InputError(f"--key-from {key_from}: there is no such environment variable, or it is empty")
    return Remote(Endpoint(endpoint, model, key), temperature)


def _judge(writer: Writer, name: str | None) -> Tuned | None:
    """The model that says whether requests help: the one that is named, else the writer itself where it is here."""
    if name == "none":
        return None
    if name is None and isinstance(writer, Local):
        return writer.tuned
    return that_writes(name or WRITER, "--judge")


def that_writes(name: str, option: str) -> Tuned:
    """A model on this computer. Raises InputError where it is none that writes text."""
    tuned = open_model(name, note)
    if not tuned.writes:
        does = "gives labels" if tuned.labels is not None else "reads texts as an encoder does"
        raise InputError(f"{option} {name}: this model {does}; a model that writes text is needed")
    return tuned


def _tell(found: Synthesised, out: Path, source: str, named: Mapping[str, str]) -> None:
    console.print(f"{found.kept} of {found.texts} texts kept in {out}", soft_wrap=True)
    for reason, count in found.refused.most_common():
        console.print(f"  {count} {reason}")
    if found.kept:
        command = ["tuneful", "fit", source, "--generated", str(out)]
        command += [part for key, column in named.items() for part in ("--set", f"data.{key}={column}")]
        console.print(f"see whether they help: {shlex.join(command)}", soft_wrap=True)
