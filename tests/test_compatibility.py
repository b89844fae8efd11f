"""What a run leaves behind is read by peft, transformers and sentence-transformers alone, with the same numbers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tuneful
from tuneful.core.types import Example, Layout, Message, Place, Row
from tuneful.data.layouts import Collator
from tuneful.testing import tiny_generator
from work import greetings, moods, write_rows

FAST: dict[str, Any] = {"schedule.steps": 10, "optimiser.learning_rate": 0.02, "evaluate": "none", "precision": "fp32"}
TEXT = "greet Ada in room 7"


@pytest.fixture(scope="module")
def generator_run(generator_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuneful.Run:
    folder = tmp_path_factory.mktemp("compat")
    data = write_rows(folder / "rows.jsonl", greetings())
    settings = {**FAST, "save.merged": True}
    return tuneful.fit(data, model=str(generator_folder), out=folder / "run", settings=settings)


@pytest.fixture(scope="module")
def reader_run(reader_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuneful.Run:
    folder = tmp_path_factory.mktemp("compat")
    data = write_rows(folder / "rows.jsonl", moods())
    return tuneful.fit(data, model=str(reader_folder), out=folder / "run", settings=FAST)


def ids(tokenizer: Any) -> torch.Tensor:
    given = tokenizer.apply_chat_template(
        [{"role": "user", "content": TEXT}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    return given["input_ids"]


def our_logits(run: tuneful.Run) -> torch.Tensor:
    tuned = run.load()
    prompt = tuned.processor.prompt([Message("user", TEXT)])
    batch = Collator(Layout.TOKENS)([row_of(prompt.ids)])
    outputs = tuned.policy.read(batch.inputs)
    with torch.no_grad():
        return tuned.policy.network.vocabulary(tuned.policy.module).logits(outputs.hidden)


def row_of(tokens: np.ndarray) -> Row:
    return Row(Example(Place("x", 1)), tokens, np.ones(len(tokens), dtype=np.float32))


def test_the_adapter_loads_with_peft(generator_run: tuneful.Run, generator_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(generator_folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = PeftModel.from_pretrained(base, generator_run.path / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(generator_run.path / "adapter")
    with torch.no_grad():
        logits = model(ids(tokenizer)).logits[0]
    torch.testing.assert_close(logits, our_logits(generator_run), rtol=1e-4, atol=1e-4)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(generator_folder).chat_template


def test_the_adapter_names_its_base(generator_run: tuneful.Run, generator_folder: Path) -> None:
    config = json.loads((generator_run.path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(generator_folder)
    assert (config["peft_type"], config["r"], config["task_type"]) == ("LORA", 16, "CAUSAL_LM")


def test_the_merged_model_loads_with_transformers(generator_run: tuneful.Run, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    expected = our_logits(generator_run)
    generator_run.load().save_merged(tmp_path / "merged")
    for folder in (generator_run.path / "model", tmp_path / "merged"):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
        with torch.no_grad():
            logits = model(ids(tokenizer)).logits[0]
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_a_tuned_classifier_loads_with_transformers(reader_run: tuneful.Run) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = reader_run.path / "model"
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = ["sunny warm day", "grey cold", "x"]
    given = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
    torch.testing.assert_close(logits, torch.from_numpy(reader_run.load().scores(texts)), rtol=1e-4, atol=1e-4)
    assert list(model.config.id2label.values()) == ["glad", "sad"]


def test_a_tuned_encoder_loads_with_sentence_transformers(reader_run: tuneful.Run) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = sentence_transformers.SentenceTransformer(str(reader_run.path / "model"), device="cpu")
        theirs = encoder.encode(["sunny warm day", "grey"], normalize_embeddings=True)
    tuned = reader_run.load()
    rows = []
    for text in ("sunny warm day", "grey"):
        encoded = tuned.processor.text(text, limit=64)
        rows.append(row_of(encoded.ids))
    batch = Collator(Layout.TOKENS)(rows)
    ours = tuned.policy.read(batch.inputs).embeddings()
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-3, atol=1e-4)


def test_a_classifier_adapter_loads_with_peft(reader_folder: Path, tmp_path: Path) -> None:
    """The head is new, so it must be in the adapter (peft issue 1070)."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    data = write_rows(tmp_path / "rows.jsonl", moods())
    done = tuneful.fit(data, model=str(reader_folder), out=tmp_path / "run", settings={**FAST, "adapter": "lora"})
    torch.manual_seed(99)
    base = AutoModelForSequenceClassification.from_pretrained(reader_folder, num_labels=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = PeftModel.from_pretrained(base, done.path / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(done.path / "adapter")
    given = tokenizer(["sunny warm day"], return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
    ours = torch.from_numpy(done.load().scores(["sunny warm day"]))
    torch.testing.assert_close(logits, ours, rtol=1e-4, atol=1e-4)


def test_a_base_model_without_template_is_served_as_it_was_trained(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model = tiny_generator(tmp_path / "plain", template=None)
    data = write_rows(tmp_path / "rows.jsonl", greetings())
    done = tuneful.fit(data, model=str(model), out=tmp_path / "run", settings=FAST)
    tokenizer = AutoTokenizer.from_pretrained(done.path / "adapter")
    served = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], add_generation_prompt=True, tokenize=False
    )
    assert served == "hi\n"
    assert done.load().processor.prompt([Message("user", "hi")]).text == served
