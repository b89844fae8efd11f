"""`tuneful synthesise`: further rows for labelled data, written by a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuneful.cli.show import console, named_columns, note, print_json
from tuneful.core.device import secret
from tuneful.core.errors import InputError
from tuneful.models.endpoint import Endpoint
from tuneful.run.embedded import WRITER
from tuneful.run.synthesise import Local, Remote, Synthesised, Writer, synthesise
from tuneful.run.tuned import open_model


def synthesise_command(
    source: str,
    *,
    model: str | None,
    endpoint: str | None,
    key_from: str | None,
    each: int,
    out: Path,
    encoder: str | None,
    temperature: float,
    seed: int,
    columns: Sequence[str],
    as_json: bool,
) -> None:
    if out.suffix not in (".jsonl", ".ndjson"):
        raise InputError(f"--out {out}: one JSON object a line is written; name a .jsonl file")
    writer = _writer(model, endpoint, key_from, temperature)
    named = named_columns(columns)
    found = synthesise(source, out, writer, count=each, seed=seed, encoder=encoder, columns=named, say=note)
    if as_json:
        print_json({"requests": found.requests, "texts": found.texts, "kept": len(found.kept),
                    "refused": dict(found.refused), "out": str(out)})  # fmt: skip
        return
    _tell(found, out, source)


def _writer(model: str | None, endpoint: str | None, key_from: str | None, temperature: float) -> Writer:
    if endpoint is None:
        name = model or WRITER
        tuned = open_model(name, note)
        if tuned.labels is not None:
            raise InputError(f"--model {name}: this model gives labels; a model that writes text is needed")
        return Local(name, tuned, temperature)
    if model is None:
        raise InputError("--endpoint: say which of its models is asked, with --model")
    if not endpoint.startswith(("http://", "https://")):
        raise InputError(f"--endpoint {endpoint}: expected an address like http://localhost:8000/v1")
    key = secret(key_from) if key_from else None
    if key_from and key is None:
        raise InputError(f"--key-from {key_from}: there is no such environment variable, or it is empty")
    return Remote(Endpoint(endpoint, model, key), temperature)


def _tell(found: Synthesised, out: Path, source: str) -> None:
    console.print(f"{len(found.kept)} of {found.texts} texts kept in {out}", soft_wrap=True)
    for reason, count in found.refused.most_common():
        console.print(f"  {count} {reason}")
    if found.kept:
        console.print(f"see whether they help: tuneful fit {source} --generated {out}", soft_wrap=True)
