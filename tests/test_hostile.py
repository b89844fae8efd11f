"""Bad input, in the words of a person at the command line: exit code 2, one message that names the place and the
remedy, no traceback, and nothing written; or it simply works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from click.testing import CliRunner, Result
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError

from tuneful.cli import main
from tuneful.core.errors import ModelError, RunFolderError
from tuneful.core.files import writing
from tuneful.models.load import locate
from tuneful.run.lock import recipe_of
from work import greetings, moods, write_rows

GOOD = "".join(json.dumps(row) + "\n" for row in greetings(30))
LABELS = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in moods(40))
FAST = ["--set", "schedule.steps=2", "--set", "evaluate=none"]
Maker = Callable[[Path], None]


def tuneful(*arguments: object) -> Result:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def rows(*extra: dict[str, Any], count: int = 30) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*greetings(count), *extra])


def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


CHAT = "".join(json.dumps(turns(("user", f"q{n}"), ("assistant", f"a{n}"))) + "\n" for n in range(20))

# name: file name, content, expected words of the message (None: it works)
FILES: dict[str, tuple[str, str | bytes, str | None]] = {
    "empty file": ("d.jsonl", "", "d.jsonl is empty"),
    "only blank lines": ("d.csv", "\n\n \n", "d.csv is empty"),
    "only a header": ("d.csv", "text,label\n", "has no rows"),
    "one row": ("d.jsonl", rows(count=1), None),
    "byte order mark": ("d.csv", b"\xef\xbb\xbf" + LABELS.encode(), None),
    "utf-16": ("d.csv", LABELS.encode("utf-16"), None),
    "windows line ends": ("d.csv", LABELS.replace("\n", "\r\n"), None),
    "latin-1": ("d.csv", (LABELS + "café,glad\n").encode("latin-1"), "line 42: the byte 0xe9 is not utf-8"),
    "null bytes": ("d.csv", LABELS.encode() + b"\x00\x00,glad\n", None),
    "ragged csv": ("d.csv", LABELS + "a,b,c\n", "line 42 has 3 fields, the header has 2"),
    "short csv row": ("d.csv", LABELS + "alone\n", "line 42 has 1 fields"),
    "open quote": ("d.csv", LABELS + '"never closed,glad\n', "double quotes"),
    "broken json line": ("d.jsonl", GOOD + '{"prompt": \n', "line 31 is not JSON"),
    "broken json file": ("d.json", '[{"prompt": "a", "completion": "b"},\n{"prompt": ]', "line 2 is not JSON"),
    "a list in a line": ("d.jsonl", GOOD + "[1]\n", "line 31 holds a list"),
    "a number as file": ("d.json", "3", "holds one int"),
    "json of another kind": ("d.json", '{"a": {"b": 1}}', "'a' is a dict; expected text"),
    "unknown columns": ("d.csv", "a,b,c\n" + "".join(f"{n}x,{n}y,{n}z\n" for n in range(20)), "--set data.text=COLUMN"),
    "column twice": ("d.csv", "text,text\na,b\n", "the column 'text' is there twice"),
    "mixed layouts in a file": ("d.jsonl", GOOD + json.dumps({"messages": []}) + "\n", "line 31: 'prompt' is empty"),
    "null label": ("d.jsonl", "".join(json.dumps(r) + "\n" for r in [*moods(40), {"text": "x", "label": None}]),
                   "line 41: 'label' is empty"),
    "nan label": ("d.csv", LABELS + "x y z,NaN\n", "line 42: 'label' is empty"),
    "empty text": ("d.csv", LABELS + ",glad\n", "line 42: 'text' is empty"),
    "one label only": ("d.csv", "text,label\n" + "".join(f"t{n},same\n" for n in range(20)), "every row has the label 'same'"),
    "one constant number": ("d.csv", "text,score\n" + "".join(f"t{n},2.5\n" for n in range(20)), "every number is 2.5"),
    "unknown role": ("d.jsonl", CHAT + json.dumps(turns(("wizard", "q"), ("assistant", "a"))) + "\n", "the role 'wizard' is unknown"),
    "no role": ("d.jsonl", CHAT + '{"messages": [{"content": "q"}]}\n', "line 21: a turn has no 'role'"),
    "no turns": ("d.jsonl", CHAT + '{"messages": []}\n', "line 21: the conversation has no turns"),
    "no answer": ("d.jsonl", CHAT + json.dumps(turns(("user", "q"))) + "\n", "there is no answer of the assistant"),
    "empty answer": ("d.jsonl", CHAT + json.dumps(turns(("user", "q"), ("assistant", " "))) + "\n", "says nothing"),
    "assistant first": ("d.jsonl", CHAT + json.dumps(turns(("assistant", "hello"), ("user", "q"), ("assistant", "a"))) + "\n", None),
    "assistant alone": ("d.jsonl", CHAT + json.dumps(turns(("assistant", "hello"))) + "\n", "there is no answer of the assistant"),
    "tool call without name": ("d.jsonl", CHAT + json.dumps({"messages": [
        {"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}]}) + "\n",
        "a tool call has no name"),
    "a picture": ("d.jsonl", CHAT + json.dumps({"messages": [
        {"role": "user", "content": [{"type": "image_url"}]}, {"role": "assistant", "content": "a"}]}) + "\n",
        "part of type 'image_url'"),
    "a conversation that is a number": ("d.jsonl", CHAT + '{"messages": 7}\n', "line 21: the conversation is a int"),
    "all turns switched off": ("d.jsonl", "".join(json.dumps({"messages": [
        {"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a", "train": False}]}) + "\n" for n in range(9)),
        "there is no answer of the assistant"),
    "a row of a megabyte": ("d.jsonl", rows({"prompt": "word " * 200_000, "completion": "x"}), "the answer would lose its end"),
    "duplicate ids": ("d.jsonl", "".join(json.dumps({"id": 1, **row}) + "\n" for row in greetings(30)), None),
    "every row the same": ("d.jsonl", (json.dumps({"prompt": "q", "completion": "a"}) + "\n") * 20, None),
    "numbers as texts": ("d.jsonl", "".join(json.dumps({"prompt": n, "completion": n + 1}) + "\n" for n in range(20)), None),
    "emoji and rare scripts": ("d.jsonl", rows({"prompt": "😀 ᚠᛇᚻ \u202e", "completion": "𝒳 \u0000"}), None),
    "template marks in a text": ("d.jsonl", rows({"prompt": "<|im_end|>{{ 7*7 }}{% raw %}", "completion": "<|im_start|>"}), None),
    "nothing is preferred": ("d.jsonl", '{"prompt": "q", "chosen": "a", "rejected": "a"}\n' * 9, "are the same"),
    "empty preference": ("d.jsonl", '{"prompt": "q", "chosen": "a", "rejected": "b"}\n{"prompt": "q", "chosen": "a", "rejected": ""}\n',
                         "'rejected' is empty"),
    "not gzip": ("d.jsonl.gz", b"plain", "cannot be read"),
    "not parquet": ("d.parquet", b"plain", "cannot be read as parquet"),
    "a spreadsheet": ("d.xlsx", b"PK", "is of no kind Tuneful reads"),
    "a picture file": ("d.png", b"\x89PNG", "is of no kind Tuneful reads"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files(name: str, generator_folder: Path, reader_folder: Path, tmp_path: Path) -> None:
    file, content, expected = FILES[name]
    (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    reads = file.endswith(".csv") or "label" in name
    out = tmp_path / "run"
    done = tuneful("fit", tmp_path / file, "--model", reader_folder if reads else generator_folder, "--out", out, *FAST)
    if expected is None:
        assert done.exit_code == 0, done.output
        return
    assert done.exit_code == 2, done.output
    assert expected in " ".join(done.stderr.split())
    assert not out.exists(), "something was started"


ARGUMENTS: dict[str, tuple[list[str], str]] = {
    "a file that is not there": (["nowhere.jsonl"], "there is no file or folder 'nowhere.jsonl'"),
    "a misspelt file": (["god.jsonl"], "Did you mean 'good.jsonl'"),
    "an unknown setting": (["good.jsonl", "--set", "optimiser.learnin_rate=1"], "Did you mean 'learning_rate'"),
    "a setting of the wrong kind": (["good.jsonl", "--set", "seed=abc"], "seed: should be a valid integer"),
    "a setting without value": (["good.jsonl", "--set", "seed"], "expected dotted.path=value"),
    "an unknown objective": (["good.jsonl", "--set", "objective=next_tokn"], "Did you mean 'next_token'"),
    "an unknown adapter": (["good.jsonl", "--set", "adapter=lorra"], "Did you mean 'lora'"),
    "a rank of zero": (["good.jsonl", "--set", "adapter.rank=0"], "adapter.rank: should be greater than 0"),
    "labels wanted where there are none": (["good.jsonl", "--set", "objective=classify"], "needs a text and a label"),
    "a column that is not there": (["good.jsonl", "--set", "data.prompt=promt"], "Did you mean 'prompt'"),
    "a layout that does not fit": (
        ["good.jsonl", "--set", "data.layout=messages"],
        "does not fit the layout 'messages'",
    ),
    "too much held out": (["good.jsonl", "--set", "data.test=30"], "data.test asks for 30 rows and there are 30"),
    "everything too long": (["good.jsonl", "--set", "data.max_tokens=3"], "the answer would lose its end"),
    "no rows asked for": (["good.jsonl#0"], "asks for 0 rows"),
    "an unknown encoding": (["good.jsonl", "--set", "data.encoding=klingon"], "there is no encoding 'klingon'"),
    "a recipe that is not there": (["recipe.yaml"], "cannot be read"),
    "a recipe that is a list": (["list.yaml"], "holds list"),
    "a recipe with a tab": (["tab.yaml"], "is not YAML"),
    "a recipe without data": (["bare.yaml"], "data: is needed"),
    "nothing to go on with": (["nowhere", "--resume"], "is not the folder of a run"),
    "a folder without training data": (["empty"], "holds no train."),
    "training data of a header alone": (["bare"], "bare has no training rows, only rows of test (40)"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str, generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text(GOOD)
    Path("list.yaml").write_text("- a\n")
    Path("tab.yaml").write_text("data:\n\t- a\n")
    Path("bare.yaml").write_text("seed: 1\n")
    Path("empty").mkdir()
    Path("bare").mkdir()
    Path("bare/train.csv").write_text("text,label\n")
    Path("bare/test.csv").write_text(LABELS)
    given, expected = ARGUMENTS[name]
    done = tuneful("fit", *given, "--model", generator_folder, "--out", "run", *FAST)
    assert done.exit_code == 2, done.output
    assert expected in " ".join(done.stderr.split())
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("[q_prj]", "adapter.targets: no layer is called 'q_prj'. Did you mean 'q_proj'? Known: down_proj,"),
        ("[foo, query]", "adapter.targets: no layer is called 'query'. Known: "),
        ("[q_proj, mlp]", "no layer is called 'mlp'"),
        ("[q_proj, query]", None),
        ("[]", "adapter.targets: is empty"),
        ("[self_attn.q_proj, v_proj]", None),
    ],
)
def test_layers_for_adapters(targets: str, expected: str | None, generator_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD)
    given = ["--model", generator_folder, "--out", tmp_path / "run", "--set", f"adapter.targets={targets}"]
    done = tuneful("fit", tmp_path / "good.jsonl", *given, *FAST)
    assert done.exit_code == (2 if expected else 0), done.output
    assert not expected or expected in " ".join(done.stderr.split())


def no_config(model: Path) -> None:
    (model / "config.json").unlink()


def damaged_config(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "llama", ')


def unknown_architecture(model: Path) -> None:
    (model / "config.json").write_text('{"model_type": "klingon"}')


def truncated_weights(model: Path) -> None:
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def garbage_weights(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00garbage garbage garbage")


def pickled_weights(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")


def no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()


def no_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").unlink()


def damaged_tokenizer(model: Path) -> None:
    (model / "tokenizer.json").write_text("{")


def refusing_template(model: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ raise_exception('no') }}")


def template_without_stop(model: Path) -> None:
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    )


def code_of_its_own(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "own.py").write_text("raise SystemExit('this code was run')")


def everything_gone(model: Path) -> None:
    shutil.rmtree(model)


MODELS: dict[str, tuple[Maker, str]] = {
    "not there": (everything_gone, "there is no model"),
    "no config": (no_config, "no config.json"),
    "damaged config": (damaged_config, "config.json"),
    "unknown architecture": (unknown_architecture, "cannot be"),
    "truncated weights": (truncated_weights, "are damaged"),
    "garbage weights": (garbage_weights, "are damaged"),
    "pickled weights": (pickled_weights, "unpickling runs whatever code is inside; refused"),
    "no weights": (no_weights, "holds no model"),
    "no tokenizer": (no_tokenizer, "cannot be loaded"),
    "damaged tokenizer": (damaged_tokenizer, "is damaged (line 1)"),
    "a template that refuses": (refusing_template, "chat template refuses"),
    "a template without stop token": (template_without_stop, "the stop token <|im_end|> is not learned"),
    "code of its own": (code_of_its_own, "--set trust_remote_code=true"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, generator_folder: Path, tmp_path: Path) -> None:
    change, expected = MODELS[name]
    model = tmp_path / "model"
    shutil.copytree(generator_folder, model)
    change(model)
    (tmp_path / "good.jsonl").write_text(GOOD)
    done = tuneful("fit", tmp_path / "good.jsonl", "--model", model, "--out", tmp_path / "run", *FAST)
    assert done.exit_code == 2, done.output
    assert expected in " ".join(done.stderr.split())


@pytest.mark.parametrize("name", ["mymodel/", "models/my model", "owner/na--me", "owner/name.git", "a/b/c"])
def test_names_that_no_model_can_have(name: str) -> None:
    with pytest.raises(
        ModelError, match=r"there is no model .*no such folder, and not a hub id.*Embedded: .*minilm-l6"
    ):
        locate(name)


def test_a_run_that_is_not_there_is_not_fetched_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`runs/first` looks like a hub id."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "recipe.lock.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no run 'frist' in runs.*Did you mean 'first'"):
        locate("runs/frist")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    if os.geteuid() == 0:  # whom no mode stops; the kernel's own folders do
        closed = Path("/sys")
    for cache in (closed / "cache", Path(__file__) / "cache"):
        monkeypatch.setenv("TUNEFUL_CACHE", str(cache))
        with pytest.raises(ModelError, match=rf"minilm-l6 .*{cache}[^$]*TUNEFUL_CACHE=FOLDER"):
            locate("minilm-l6")


def hub(monkeypatch: pytest.MonkeyPatch, folder: Path, here: list[str], there: list[str]) -> list[list[str]]:
    """A hub with the files `there`, of which `here` are on this computer; what is fetched from it."""
    fetched: list[list[str]] = []

    def snapshot_download(name: str, *, allow_patterns: list[str], local_files_only: bool = False) -> str:
        folder.mkdir(exist_ok=True)
        if not local_files_only:
            fetched.append([file for file in there if any(fnmatch(file, pattern) for pattern in allow_patterns)])
        elif not here:
            raise LocalEntryNotFoundError("nothing here")
        for file in here if local_files_only else fetched[-1]:
            (folder / file).write_text(INDEX if file.endswith("index.json") else AUTO if file == "config.json" else "")
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return fetched


AUTO = json.dumps({"auto_map": {"AutoModelForCausalLM": "own.Model"}})
SHARDS = ["one.safetensors", "two.safetensors"]
INDEX = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}})
WHOLE = ["config.json", "model.safetensors"]
SHARDED = ["config.json", "model.safetensors.index.json", *SHARDS]
QUANTISED = ["config.json", "q4.gguf"]


@pytest.mark.parametrize(
    ("here", "there", "trust", "expected"),
    [
        (WHOLE, WHOLE, False, []),
        (SHARDED, SHARDED, False, []),
        ([], WHOLE, False, [WHOLE]),
        (["config.json"], WHOLE, False, [WHOLE]),
        (WHOLE[1:], WHOLE, False, [WHOLE]),
        (SHARDED[:3], SHARDED, False, [SHARDED]),
        ([], QUANTISED, False, [["config.json"], ["q4.gguf"]]),
        (QUANTISED, QUANTISED, False, []),
        ([], [*WHOLE, "q4.gguf", "own.py"], False, [WHOLE]),
        ([], [*WHOLE, "own.py"], True, [[*WHOLE, "own.py"]]),
        (WHOLE, [*WHOLE, "own.py"], True, [[*WHOLE, "own.py"]]),
        ([*WHOLE, "own.py"], [*WHOLE, "own.py"], True, []),
    ],
)
def test_what_is_fetched_from_the_hub(
    here: list[str], there: list[str], trust: bool, expected: list[list[str]],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fetched = hub(monkeypatch, tmp_path / "snapshot", here, there)
    assert locate("owner/name", trust_remote_code=trust) == tmp_path / "snapshot"
    assert fetched == expected


def test_a_lock_file_of_another_version() -> None:
    recipe = {"tasks": [{"data": {"source": "d.csv"}}], "adapter": {"kind": "loha"}}
    for versions, wrote in (({"tuneful": "9.1"}, "tuneful 9.1"), ({}, "an unknown version of tuneful")):
        lock = {"recipe": recipe, "versions": versions}
        with pytest.raises(RunFolderError, match=rf"recipe.lock.json was written by {wrote}[^$]*no adapter 'loha'"):
            recipe_of(lock)
    with pytest.raises(RunFolderError, match=r"recipe.lock.json .* holds no recipe"):
        recipe_of({"versions": {}})


def test_weights_on_a_full_disk(tmp_path: Path) -> None:
    """safetensors has an error of its own for what the system says; a file size limit makes it say so."""
    code = (
        "import resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from safetensors.torch import save_file\n"
        "from tuneful.core.errors import RunFolderError\n"
        "from tuneful.core.files import new_folder\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))\n"
        "try:\n"
        "    with new_folder(Path(sys.argv[1])) as scratch:\n"
        "        save_file({'a': torch.zeros(100_000)}, scratch / 'model.safetensors')\n"
        "except RunFolderError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "no room to write" in done.stdout, done.stderr
    assert "free some space" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "expected"),
    [("Error while serializing: No space left on device (os error 28)", "no room to write"),
     ("I/O error: Disk quota exceeded (os error 122)", "no room to write"),
     ("I/O error: Read-only file system (os error 30)", "choose another folder")],
)  # fmt: skip
def test_what_safetensors_says_of_a_disk(said: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=expected), writing(tmp_path):
        raise SafetensorError(said)
    with pytest.raises(SafetensorError), writing(tmp_path):
        raise SafetensorError("Error while deserializing header: header too large")


def test_a_label_that_only_the_test_rows_have(reader_folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", moods(40))
    write_rows(tmp_path / "test.jsonl", [{"text": "a b c", "label": "glad"}, {"text": "x y z", "label": "glda"}])
    done = tuneful("fit", tmp_path, "--model", reader_folder, "--out", tmp_path / "run", *FAST)
    assert done.exit_code == 2
    said = " ".join(done.stderr.split())
    assert "test.jsonl line 2: the label 'glda' is in no training row" in said
    assert "Did you mean 'glad'" in said


def test_sources_in_different_layouts(generator_folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "one.jsonl", greetings(9))
    (tmp_path / "other.jsonl").write_text(CHAT)
    (tmp_path / "recipe.yaml").write_text(f"data: [{tmp_path}/one.jsonl, {tmp_path}/other.jsonl]\n")
    done = tuneful("fit", tmp_path / "recipe.yaml", "--model", generator_folder, "--out", tmp_path / "run", *FAST)
    assert done.exit_code == 2
    assert "different layouts (messages, prompt_completion)" in done.stderr


@pytest.mark.parametrize("file", ["report.json", "recipe.lock.json", "adapter"])
def test_a_damaged_run_folder(file: str, generator_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD)
    run = tmp_path / "run"
    assert tuneful("fit", tmp_path / "good.jsonl", "--model", generator_folder, "--out", run, *FAST).exit_code == 0
    if file == "adapter":
        shutil.rmtree(run / "adapter")
    else:
        (run / file).write_text("{")
    done = tuneful("predict", run, tmp_path / "good.jsonl") if file != "report.json" else tuneful("runs", tmp_path)
    assert done.exit_code == (0 if file == "report.json" else 2), done.output
    again = tuneful("fit", tmp_path / "good.jsonl", "--model", generator_folder, "--out", run, *FAST)
    assert again.exit_code == 2
    assert "holds a run already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["predict", "nowhere", "good.jsonl"], "there is no model 'nowhere'"),
        (["predict", "MODEL", "nowhere.jsonl"], "there is no file or folder"),
        (["predict", "MODEL", "good.jsonl", "--column", "promt"], "has no column 'promt'"),
        (["eval", "MODEL", "labels.csv", "--column", "label"], "expected part=column"),
        (["compare", "one"], "at least two runs"),
        (["compare", "one", "two"], "there is no folder one"),
        (["models", "pull", "gpt-5"], "there is no model 'gpt-5'"),
        (["models", "path", "smol"], "there is no embedded model 'smol'"),
    ],
)
def test_other_commands(
    arguments: list[str], expected: str, generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text(GOOD)
    Path("labels.csv").write_text(LABELS)
    done = tuneful(*(str(generator_folder) if word == "MODEL" else word for word in arguments))
    assert done.exit_code == 2, done.output
    assert expected in " ".join(done.stderr.split())
