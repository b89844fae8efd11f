"""A hub id, a folder or an embedded name -> a model that is ready to be read, and its processor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tuneful.core.errors import ModelError
from tuneful.core.linear import quantise_layers
from tuneful.core.quantised import Kind
from tuneful.core.spec import did_you_mean
from tuneful.models import block, kept
from tuneful.models.block import parted
from tuneful.models.embedded import EMBEDDED, pull
from tuneful.models.examine import adopt, examine
from tuneful.models.explain import explained
from tuneful.models.heads import Labels, gguf_in, read_module
from tuneful.models.network import Network
from tuneful.models.processors import TextProcessor
from tuneful.models.prompts import prompts_in

Say = Callable[[str], None]
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
READABLE = ("*.safetensors", "*.safetensors.index.json", "*.gguf")
HUB_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.md"]
QUANTISED = ["*.gguf"]  # only where there is nothing else: many models lie beside their own quantised copies
CODE = ["*.py"]  # only where the person trusts it


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model with everything that belongs to it."""

    name: str  # as the person wrote it
    folder: Path
    module: nn.Module
    network: Network
    processor: TextProcessor
    quantise: Kind | None = None  # how the linear layers of its blocks are kept


def load(
    name: str,
    *,
    labels: Labels | None = None,
    fills: bool = False,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    trust_remote_code: bool = False,
    quantise: Kind | None = None,
    say: Say = lambda _: None,
) -> Loaded:
    """`labels` asks for a classification head (a new one unless the checkpoint has one that fits), `fills` for the one
    that names masked tokens; `quantise` keeps the linear layers of the blocks so, frozen."""
    folder = locate(name, say, trust_remote_code=trust_remote_code)
    with explained(name, folder), _no_bars():
        pooled = labels is not None and labels.pooled
        processor = load_processor(
            name, folder, writes=labels is None and not fills, pooled=pooled, trust_remote_code=trust_remote_code
        )
        read = _Read(folder, labels, dtype, trust_remote_code, processor.pad_id, fills)
        keeps = (
            dtype == torch.bfloat16 and labels is None and not fills and gguf_in(folder) is None and kept.worth(folder)
        )
        module, network = _kept(read, say) if keeps else _examined(read)
    if quantise is not None and not quantise_layers(module, quantise, device):  # before the whole of it moves there
        raise ModelError(f"{name} has no plain linear layers in its blocks: there is nothing to quantise")
    block.forget(module)
    return Loaded(name, folder, module.to(device), network, processor, quantise)


@dataclass(frozen=True, slots=True)
class _Read:
    """What is to be read."""

    folder: Path
    labels: Labels | None
    dtype: torch.dtype
    trust_remote_code: bool
    pad_id: int
    fills: bool

    def module(self, folder: Path, dtype: torch.dtype) -> Any:
        module = read_module(folder, self.labels, dtype, self.trust_remote_code, fills=self.fills)
        if getattr(module.config, "pad_token_id", None) is None:
            module.config.pad_token_id = self.pad_id
        return module


def _examined(read: _Read) -> tuple[Any, Network]:
    """The model, asked in float32 how it can be read."""
    module = read.module(read.folder, torch.float32)
    network = examine(module)
    for parameter in module.parameters():  # buffers stay: rotary frequencies in bf16 would misplace far tokens
        parameter.data = parameter.data.to(read.dtype)
    block.forget(module)
    return module, network


def _kept(read: _Read, say: Say) -> tuple[Any, Network]:
    """The same from the cache, written there the first time."""
    home = kept.place(read.folder, read.dtype)
    network = kept.facts(home)
    if network is None:
        module, network = _examined(read)
        with parted(module):
            if not kept.keep(home, module, network, say):
                return module, network
    try:
        module = read.module(home, read.dtype)
        kept.map_weights(module, home)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the copy, the model itself is still there
        say(f"the kept copy of the model cannot be read ({error}); it is read anew")
        kept.remove(home)
        return _examined(read)
    adopt(module, network)
    return module, network


def load_processor(
    name: str, folder: Path, *, writes: bool = True, pooled: bool = False, trust_remote_code: bool = False
) -> TextProcessor:
    """The tokenizer and its template, without the weights; `writes` False for a model that only reads, `pooled` for one
    whose head reads the mean of a text, with what the encoder wants before it."""
    from transformers import AutoTokenizer

    with explained(name, folder):
        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": trust_remote_code}
        if (gguf := gguf_in(folder)) is not None:
            given["gguf_file"] = gguf.name
        tokenizer = AutoTokenizer.from_pretrained(folder.parent if folder.is_file() else folder, **given)
        generation, config = _json(folder, "generation_config.json"), _json(folder, "config.json")
        processor = TextProcessor.of(tokenizer, generation, config, writes=writes)
        return replace(processor, prompts=prompts_in(folder)) if pooled else processor


def locate(name: str, say: Say = lambda _: None, *, trust_remote_code: bool = False) -> Path:
    """The folder (or .gguf file) a model name stands for, fetched if it must be, with the Python code that comes with
    it if that is trusted. Raises ModelError."""
    if name in EMBEDDED:
        return pull(EMBEDDED[name], say)
    path = Path(name).expanduser()
    if (path / "recipe.lock.json").exists():
        return _of_run(name, path)
    if path.exists():
        return _checked(name, path)
    runs = sorted(file.parent.name for file in path.parent.glob("*/recipe.lock.json"))
    if runs and path.parent != Path():
        raise ModelError(f"there is no run '{path.name}' in {path.parent}.{did_you_mean(path.name, runs)}")
    if _is_hub_id(name):
        return _checked(name, _from_hub(name, say, trust_remote_code=trust_remote_code))
    raise ModelError(
        f"there is no model '{name}': no such folder, and not a hub id like 'owner/name'."
        f"{did_you_mean(name, EMBEDDED)} Embedded: {', '.join(sorted(EMBEDDED))}"
    )


def _is_hub_id(name: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def fingerprint(folder: Path) -> str:
    """Tells one set of weights from another: names, sizes and the first megabyte of each file."""
    digest = hashlib.sha256()
    files = [folder] if folder.is_file() else sorted(f for kind in READABLE for f in folder.glob(kind))
    for file in files:
        digest.update(f"{file.name} {file.stat().st_size}".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(1 << 20))
    return digest.hexdigest()


@contextmanager
def _no_bars() -> Iterator[None]:
    """A second's bar for each file of weights is noise."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _of_run(name: str, path: Path) -> Path:
    """A run stands for the model it made."""
    if (path / "model").exists():
        return _checked(name, path / "model")
    if kinds := sorted(str(file.parent) for file in path.glob("tasks/*/recipe.lock.json")):
        raise ModelError(f"the run {name} holds a model for each kind of task it learned; name one: {', '.join(kinds)}")
    if tasks := sorted(file.parent.name for file in path.glob("adapters/*/adapter_config.json")):
        raise ModelError(
            f"the run {name} holds an adapter for each of {', '.join(tasks)}, no model of its own; save the model of "
            f'one of them: tuneful.load("{name}", task="{tasks[0]}").save_merged("folder")'
        )
    what = "an adapter, no model of its own" if (path / "adapter").exists() else "no model yet"
    raise ModelError(
        f"the run {name} holds {what}; tune it with --set save.merged=true, or save the two as one: "
        f'tuneful.load("{name}").save_merged("folder")'
    )


def _checked(name: str, path: Path) -> Path:
    if path.is_file():
        if path.suffix == ".gguf":
            return path
        raise ModelError(f"{name} is a file; a model is a folder with config.json and *.safetensors, or a .gguf file")
    if any(path.glob(kind) for kind in READABLE if list(path.glob(kind))):
        if not (path / "config.json").exists() and gguf_in(path) is None:
            raise ModelError(f"{name} has weights but no config.json: copy the whole model folder")
        return path
    pickles = [file.name for kind in PICKLES for file in path.glob(kind)]
    if pickles:
        raise ModelError(
            f"{name} holds only pickled weights ({pickles[0]}), and unpickling runs whatever code is inside; refused.\n"
            "  Save it once as safetensors: model.save_pretrained(folder)"
        )
    raise ModelError(f"{name} holds no model: no *.safetensors or *.gguf in it")


def _from_hub(name: str, say: Say, *, trust_remote_code: bool = False) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = [*HUB_FILES, *(CODE if trust_remote_code else ())]
    try:
        folder = Path(snapshot_download(name, local_files_only=True, allow_patterns=[*wanted, *QUANTISED]))
        if _is_whole(folder, trust_remote_code):
            return folder
    except LocalEntryNotFoundError:
        pass
    say(f"fetching {name} once from the model hub")
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
        if not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=QUANTISED))
        return folder
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the model '{name}' is not on this computer and could not be fetched ({reason}).\n"
            f"  Give --model a folder, or an embedded model: {', '.join(sorted(EMBEDDED))}"
        ) from None


def _is_whole(folder: Path, trust_remote_code: bool) -> bool:
    """Whether a folder of the hub's cache can be used as it is; a fetch that was broken off leaves a part."""
    try:
        config, index = _json(folder, "config.json"), _json(folder, "model.safetensors.index.json")
    except ValueError:
        return False
    # Code may also lie with another model, as `owner/name--file.Class`, which transformers finds by itself.
    owns_code = any("--" not in str(place) for place in (config.get("auto_map") or {}).values())
    if trust_remote_code and owns_code and not list(folder.glob("*.py")):
        return False
    if shards := set((index.get("weight_map") or {}).values()):
        return bool(config) and all((folder / shard).exists() for shard in shards)
    return (bool(config) and bool(list(folder.glob("*.safetensors")))) or bool(list(folder.glob("*.gguf")))


def _json(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    if folder.is_file() or not file.exists():
        return {}
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded
