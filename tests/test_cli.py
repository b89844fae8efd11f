"""The command line: what a person types, sees, and gets as exit code; in a process of its own where that matters."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rich.text import Text

from tuneful.cli.main import labels_in
from tuneful.cli.show import quality_table, table
from tuneful.testing import CHATML, tiny_generator
from work import greetings, moods, typed, write_rows

FAST = ["--set", "schedule.steps=8", "--set", "evaluate.generate=3", "--set", "optimiser.learning_rate=0.02"]


def apart(*arguments: object, cwd: Path, code: int = 0, **settings: Any) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    command = [sys.executable, "-m", "tuneful", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=200, **settings)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, done.stderr + done.stdout
    return done


def tuneful(*arguments: object, cwd: Path, code: int = 0, keys: str = "") -> Result:
    done = typed(*arguments, cwd=cwd, keys=keys)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture(scope="module")
def generator_run(generator_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    data = write_rows(folder / "greetings.jsonl", greetings())
    tuneful("fit", data, "--model", generator_folder, "--out", folder / "run", *FAST, cwd=folder)
    return folder / "run"


@pytest.fixture(scope="module")
def reader_run(reader_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    data = write_rows(folder / "moods.jsonl", moods())
    tuneful("fit", data, "--model", reader_folder, "--out", folder / "run", *FAST, cwd=folder)
    return folder / "run"


def test_help_is_quick_and_complete(tmp_path: Path) -> None:
    apart("--help", cwd=tmp_path)
    begin = time.perf_counter()
    shown = apart("--help", cwd=tmp_path).stdout
    assert time.perf_counter() - begin < 3, "0.06 s on a quiet machine"
    for command in ("fit", "check", "eval", "predict", "chat", "compare", "models", "runs", "schema", "doctor"):
        assert f"\n  {command}" in shown


def test_fit_says_what_it_decided_and_what_came_out(generator_folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "greetings.jsonl", greetings())
    done = tuneful("fit", "greetings.jsonl", "--model", generator_folder, *FAST, cwd=tmp_path)
    assert "layout prompt_completion: objective next_token" in done.stderr
    assert "Quality on the test rows" in done.stdout
    assert "report: runs" in done.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.endswith("-greetings")
    assert (folder / "report.html").exists()


def test_fit_for_machines(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    done = apart("fit", data, "--model", generator_folder, "--json", *FAST, cwd=tmp_path)
    assert json.loads(done.stdout)["schema_version"] == 1


def test_a_report_in_chinese(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    done = tuneful("fit", data, "--model", generator_folder, "--lang", "zh-TW", "--out", "run", *FAST, cwd=tmp_path)
    assert "微調" in done.stdout
    assert 'lang="zh-Hant-TW"' in (tmp_path / "run" / "report.html").read_text()


def test_a_recipe_file(generator_folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "greetings.jsonl", greetings())
    (tmp_path / "recipe.yaml").write_text(
        f"base_model: {generator_folder}\ndataset: greetings.jsonl\nlora_r: 4\nmax_steps: 3\nevaluate: none\n"
    )
    done = tuneful("fit", "recipe.yaml", "--out", "run", cwd=tmp_path)
    assert "lora_r is called adapter.rank here" in done.stderr
    assert json.loads((tmp_path / "run" / "recipe.lock.json").read_text())["recipe"]["adapter"]["rank"] == 4


def test_check_shows_what_is_learned(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    shown = tuneful("check", data, "--model", generator_folder, cwd=tmp_path).stdout
    assert "stop token <|im_end|>: learned in" in shown
    assert "⟦hi " in shown
    assert "Plan" in shown
    assert not (tmp_path / "runs").exists()
    found = json.loads(tuneful("check", data, "--model", generator_folder, "--json", cwd=tmp_path).stdout)
    assert found["data"]["rows"]["train"] > 20
    assert found["plan"]["steps"] > 0
    pieces = found["data"]["shown"][0]["pieces"]
    assert [learned for _, learned in pieces] == [False, True, False]


def test_memory_is_planned_for(generator_folder: Path, tmp_path: Path) -> None:
    """Enough is said to be enough, and too little is refused before anything starts, by both commands."""
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    given = ("--model", generator_folder, "--memory")
    plan = json.loads(tuneful("check", data, *given, "3GB", "--json", cwd=tmp_path).stdout)["plan"]
    assert 400 < plan["memory_mb"] < 3072
    for command in ("check", "fit"):
        refused = " ".join(tuneful(command, data, *given, "200MB", cwd=tmp_path, code=2).stderr.split())
        assert f"memory: this run needs about {plan['memory_mb']:,} MB even with the fewest tokens" in refused
        assert "and 200MB is all it may have" in refused
    assert not (tmp_path / "runs").exists()


def test_check_shows_the_template_of_training_and_serving(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    long, bare = tmp_path / "long", tiny_generator(tmp_path / "bare", template=None)
    shutil.copytree(generator_folder, long)
    (long / "chat_template.jinja").write_text(f"{{# a remark #}}\n{{# {'long ' * 300} #}}\n{CHATML}")
    shown = {model: tuneful("check", data, "--model", model, cwd=tmp_path).stdout for model in (generator_folder, long)}
    assert f"chat template (the model's own, for training and serving):\n{CHATML}\n" in shown[generator_folder]
    assert "{# a remark #}\n... 1," in shown[long]
    assert "--json shows it all" in shown[long]
    assert "long long" not in shown[long]
    plain = tuneful("check", data, "--model", bare, cwd=tmp_path).stdout
    assert "chat template (the model brings none; Tuneful's plain one, for training and serving):" in plain
    texts = write_rows(tmp_path / "texts.jsonl", [{"text": row["prompt"]} for row in greetings()])
    assert "chat template" not in tuneful("check", texts, "--model", generator_folder, cwd=tmp_path).stdout


def test_check_lists_what_leaked(generator_folder: Path, tmp_path: Path) -> None:
    rows = greetings()
    (tmp_path / "data").mkdir()
    write_rows(tmp_path / "data" / "train.jsonl", rows)
    for count, more in ((3, False), (12, True)):
        write_rows(tmp_path / "data" / "test.jsonl", [*rows[:count], *greetings(60)[50:]])
        shown = tuneful("check", "data", "--model", generator_folder, cwd=tmp_path).stdout
        assert shown.count("leaked: ") == min(count, 10)
        assert "leaked: train.jsonl line 1: says the same as test.jsonl line 1" in shown
        assert ("... and 2 more; --json lists all" in shown) == more


def test_nothing_people_write_is_markup(reader_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "["
    folder.mkdir()
    names = {"glad": "[/x]", "sad": "[bold]:smile:"}
    rows = [{"text": f"{row['text']} [/y]", "label": names[row["label"]]} for row in moods()]
    data = write_rows(folder / "x].jsonl", rows)
    shown = tuneful("check", data, "--model", reader_folder, cwd=tmp_path).stdout
    for words in (*names.values(), "[/y]"):
        assert words in shown
    shown = tuneful("fit", data, "--model", reader_folder, "--out", folder / "run]", *FAST, cwd=tmp_path).stdout
    assert "[/run]/report.html" in shown
    assert "/run]" in tuneful("runs", "[", cwd=tmp_path).stdout


def test_tables_print_words_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table("of [/t]", ("[/c]", ":smile:"), [["[/x]", 1], [Text("[b]y"), None]])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["of", "[/t]"], ["[/c]", ":smile:"], ["[/x]", "1"], ["[b]y", "–"],
    ]  # fmt: skip


def test_a_system_that_was_not_asked_has_no_column(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"base": 0.5, "kshot": None, "trivial": 0.25, "tuned": 0.75, "delta": 0.25, "ci95": [0.1, 0.4], "n": 8}
    quality_table("Quality", {"accuracy": found})
    shown = capsys.readouterr().out
    assert "trivial" in shown
    assert "k-shot" not in shown


def test_check_and_fit_refuse_the_same(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", [*greetings(20), {"prompt": "x", "completion": ""}])
    checked = tuneful("check", data, "--model", generator_folder, cwd=tmp_path, code=2)
    refused = tuneful("fit", data, "--model", generator_folder, cwd=tmp_path, code=2)
    for done in (checked, refused):
        assert "rows.jsonl line 21: 'completion' is empty" in " ".join(done.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_a_broken_gate_is_exit_code_3(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    gate = ["--set", "gates.forgetting_kl=1e-9"]
    done = tuneful("fit", data, "--model", generator_folder, "--out", "run", *FAST, *gate, cwd=tmp_path, code=3)
    assert "forgetting_kl" in done.stderr


def test_predict_from_file_and_from_standard_input(generator_run: Path, reader_run: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "ask.jsonl", [{"prompt": "greet Ada"}, {"prompt": "greet Bo"}])
    tuneful("predict", generator_run, rows, "--out", "answers.jsonl", "--new-tokens", "8", cwd=tmp_path)
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["input"] for answer in answers] == ["greet Ada", "greet Bo"]
    whole = answers[0]["prediction"]
    assert len(whole) > 3
    cut = tuneful("predict", generator_run, rows, "--new-tokens", "8", "--stop", whole[2], cwd=tmp_path)
    assert json.loads(cut.stdout.splitlines()[0])["prediction"] == whole.split(whole[2])[0]
    again = tuneful("predict", generator_run, rows, "--out", "answers.jsonl", cwd=tmp_path, code=2)
    assert "answers.jsonl exists" in again.stderr
    assert (
        "name a .jsonl file" in tuneful("predict", generator_run, rows, "--out", "a.csv", cwd=tmp_path, code=2).stderr
    )
    over = tuneful("fit", generator_run, "--resume", cwd=tmp_path, code=2)
    assert "has ended" in over.stderr
    done = tuneful("predict", reader_run, "-", cwd=tmp_path, keys="sunny warm\ngrey cold\n")
    assert [json.loads(line)["prediction"] in ("glad", "sad") for line in done.stdout.splitlines()] == [True, True]


def test_eval_of_a_run_and_of_a_model(
    generator_run: Path, reader_run: Path, generator_folder: Path, tmp_path: Path
) -> None:
    data = write_rows(tmp_path / "new.jsonl", greetings(20))
    found = json.loads(tuneful("eval", generator_run, data, "--generate", "3", "--json", cwd=tmp_path).stdout)
    assert found["quality"]["perplexity"]["tuned"] is not None
    found = json.loads(tuneful("eval", generator_folder, data, "--generate", "3", "--json", cwd=tmp_path).stdout)
    assert found["quality"]["perplexity"]["tuned"] is None
    assert found["quality"]["perplexity"]["base"] > 1
    labelled = write_rows(tmp_path / "moods.jsonl", moods(20))
    shown = tuneful("eval", reader_run, labelled, cwd=tmp_path).stdout
    assert "accuracy" in shown


def test_compare_and_runs(generator_run: Path, tmp_path: Path) -> None:
    found = json.loads(tuneful("compare", generator_run, generator_run, "--json", cwd=tmp_path).stdout)["comparisons"]
    assert {row["metric"] for row in found} == {"exact_match", "rouge_l", "token_f1", "perplexity"}
    assert all(row["delta"] == 0 and row["ci95"] == [0, 0] for row in found)
    listed = json.loads(tuneful("runs", generator_run.parent, "--json", cwd=tmp_path).stdout)
    assert listed[0]["metric"] in ("perplexity", "exact_match")
    assert "there are no runs" in tuneful("runs", cwd=tmp_path).stdout


def test_chat(generator_run: Path, tmp_path: Path) -> None:
    done = tuneful("chat", generator_run, "--new-tokens", "4", cwd=tmp_path, keys="greet Ada\n\n")
    assert "an empty line ends" in done.stderr


def test_schema_models_doctor(tmp_path: Path) -> None:
    assert json.loads(tuneful("schema", cwd=tmp_path).stdout)["title"] == "Tuneful recipe"
    names = {model["name"] for model in json.loads(tuneful("models", "list", "--json", cwd=tmp_path).stdout)}
    assert names == {"smollm2-135m", "minilm-l6", "e5-small"}
    assert "Did you mean 'minilm-l6'" in tuneful("models", "path", "minilm", cwd=tmp_path, code=2).stderr
    assert json.loads(tuneful("doctor", "--json", cwd=tmp_path).stdout)["fp32_gflops"] > 0


def start(folder: Path, model: Path, *more: str) -> subprocess.Popen[str]:
    data = write_rows(folder / "greetings.jsonl", greetings())
    settings = ["--set", "schedule.steps=4000", "--set", "evaluate.every=5", "--set", "evaluate.patience=0"]
    command = [
        sys.executable,
        "-m",
        "tuneful",
        "fit",
        str(data),
        "--model",
        str(model),
        "--out",
        "run",
        *settings,
        *more,
    ]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(folder: Path, step: int) -> None:
    records = folder / "run" / "records.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if records.exists() and records.read_text().count('"train"') >= step:
            return
        time.sleep(0.02)
    raise AssertionError("the run did not get going")


def trained_steps(folder: Path) -> list[int]:
    lines = (folder / "run" / "records.jsonl").read_text().splitlines()
    return [record["step"] for record in map(json.loads, lines) if record["kind"] == "train"]


def test_ctrl_c_saves_and_says_how_to_go_on(generator_folder: Path, tmp_path: Path) -> None:
    process = start(tmp_path, generator_folder)
    wait_for_step(tmp_path, 12)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "tuneful fit run --resume" in errors
    done = trained_steps(tmp_path)[-1]
    saved = max(int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved == done


@pytest.mark.parametrize("moment", [7, 23])
def test_kill_9_loses_at_most_what_was_not_saved(generator_folder: Path, tmp_path: Path, moment: int) -> None:
    process = start(tmp_path, generator_folder, "--set", "checkpoint.every=1")
    wait_for_step(tmp_path, moment)
    process.kill()
    process.communicate(timeout=60)
    lock = json.loads((tmp_path / "run" / "recipe.lock.json").read_text())
    lock["recipe"]["schedule"]["steps"] = moment + 20
    (tmp_path / "run" / "recipe.lock.json").write_text(json.dumps(lock))
    tuneful("fit", "run", "--resume", cwd=tmp_path)
    assert trained_steps(tmp_path) == list(range(1, moment + 21))
    assert (tmp_path / "run" / "report.json").exists()


def test_a_file_size_limit_is_a_full_disk(generator_folder: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes every file above the limit fail to write, in the middle."""
    data = write_rows(tmp_path / "greetings.jsonl", greetings())

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    done = apart(
        "fit", data, "--model", generator_folder, "--out", "run", *FAST, cwd=tmp_path, code=2, preexec_fn=limit
    )
    assert "no room to write" in done.stderr
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_a_read_only_folder(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    if os.geteuid() == 0:  # whom no mode stops; the kernel's own folders do
        closed = Path("/sys")
    done = tuneful("fit", data, "--model", generator_folder, "--out", closed / "run", *FAST, cwd=tmp_path, code=2)
    assert "choose another folder with --out" in done.stderr


def test_a_run_folder_that_is_a_file(generator_folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "greetings.jsonl", greetings())
    done = tuneful("fit", data, "--model", generator_folder, "--out", data, *FAST, cwd=tmp_path, code=2)
    assert "cannot write" in done.stderr
    assert len(data.read_text().splitlines()) == 40


@pytest.mark.parametrize("text", ["退款，物流，帳號", "退款、物流、帳號", "退款, 物流,帳號 ,"])
def test_names_are_told_apart_by_the_commas_of_chinese_too(text: str) -> None:
    assert labels_in(text) == ["退款", "物流", "帳號"]


def test_a_list_with_a_comma_is_cut_nowhere_else() -> None:
    assert labels_in("bread、rolls, cake") == ["bread、rolls", "cake"]
