"""Is it English, and what other languages get."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import tuneful
from intents import INTENTS
from intents import rows as intents
from tuneful.core.errors import ModelError
from tuneful.data.language import is_english
from tuneful.models.e5 import BLOCK_BYTES, dequantised, read
from tuneful.models.prompts import Prompts, prompts_in, write_prompts
from tuneful.run.api import check
from work import write_rows

CHINESE = {
    "退款": ["我要退錢", "請把錢退給我", "退款什麼時候到", "東西壞了，請退費", "我還沒收到退款", "把錢還我"],
    "包裹": ["我的包裹在哪裡", "貨什麼時候到", "快遞到哪了", "物流沒有更新", "包裹還沒送來", "查一下我的快遞"],
    "密碼": ["我忘記密碼了", "無法登入帳號", "怎麼重設密碼", "帳號被鎖住了", "登入一直失敗", "幫我改密碼"],
}


@pytest.mark.parametrize(("texts", "english"), [
    ([text for texts in INTENTS.values() for text in texts], True),
    ([text for texts in CHINESE.values() for text in texts], False),
    (["ich möchte mein Geld zurück haben", "wann kommt mein Paket denn an"] * 30, False),
    (["quiero cancelar el pedido de ayer", "no me ha llegado el paquete todavia"] * 30, False),
    (["late parcel", "cancel order"] * 60, True),  # says nothing of its language
    (["12", "7.5"], True),
    ([], True),
])  # fmt: skip
def test_what_is_english(texts: list[str], english: bool) -> None:
    assert is_english(texts) is english


def test_a_block_of_four_bit_weights() -> None:
    """Worked by hand: scale 0.5; byte k holds k in its low half and 15 - k in its high half."""
    block = np.float16(0.5).tobytes() + bytes(k | ((15 - k) << 4) for k in range(16))
    assert len(block) == BLOCK_BYTES
    found = dequantised(block)
    assert found[:16].tolist() == [(k - 8) / 2 for k in range(16)]
    assert found[16:].tolist() == [(7 - k) / 2 for k in range(16)]


def container(*, magic: bytes = b"E5S1") -> bytes:
    """One piece, one tensor of two float32 weights."""
    head = magic + bytes(4) + struct.pack("<7ifi5iQ", 4, 1, 2, 8, 3, 5, 2, 1e-12, 32, 1, 0, 2, 1, 3, 2)
    pieces = struct.pack("<2I", 0, 2) + struct.pack("<f", 0.0) + b"ab"
    normaliser = struct.pack("<iI", 9, 3) + b"xyz"
    name = b"emb.ln.w"
    before = len(head) + len(pieces) + len(normaliser) + 4 + 2 + len(name) + struct.calcsize("<BIQQ")
    record = struct.pack("<H", len(name)) + name + struct.pack("<BIQQ", 0, 2, before, 8)
    return head + pieces + normaliser + struct.pack("<i", 1) + record + struct.pack("<2f", 1.5, -2.0)


def test_a_container_is_read_and_another_file_refused() -> None:
    header, tensors = read(container())
    assert (header.width, header.layers, header.heads, header.vocabulary) == (4, 1, 2, 3)
    torch.testing.assert_close(tensors["emb.ln.w"], torch.tensor([1.5, -2.0]))
    with pytest.raises(ModelError, match="E5S1"):
        read(container(magic=b"GGUF"))


def test_what_a_sentence_encoder_wants_before_a_text_is_learned_and_saved(reader_folder: Path, tmp_path: Path) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(reader_folder, model)
    write_prompts(model, Prompts("query: "))
    data = write_rows(tmp_path / "few.jsonl", intents(0, 4))
    run = tuneful.fit(data, model=str(model), out=tmp_path / "run", settings={"data.test": 6})
    assert run.report["data"]["shown"][0]["pieces"][0][0].startswith("query: ")
    assert prompts_in(run.path / "model").text == "query: "
    ours = run.load().scores(["where is my parcel"])
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(str(run.path / "model"), device="cpu")
    np.testing.assert_allclose(theirs.encode(["where is my parcel"]), ours, rtol=1e-3, atol=1e-3)
    # A head of the architecture's own is read by tools that know nothing of prompts.
    assert not check(data, model=str(model)).processor.prompts.text or check(data, model=str(model)).pooled
    plain = check({"data": str(data), "model": str(model), "choose": "none"})
    assert plain.processor.prompts.text == ""


@pytest.mark.real
def test_chinese_is_read_by_the_multilingual_encoder(e5: Path, tmp_path: Path) -> None:
    said = [{"text": text, "label": name} for name, texts in CHINESE.items() for text in texts]
    data = tmp_path / "data"
    data.mkdir()
    write_rows(data / "train.jsonl", [row for number, row in enumerate(said) if number % 6 < 3])
    write_rows(data / "test.jsonl", [row for number, row in enumerate(said) if number % 6 >= 3])
    settings = {"objective.pooling": "mean", "adapter": "head", "data.validation": 0}
    run = tuneful.fit(data, out=tmp_path / "run", settings=settings)
    assert run.report["provenance"]["model"] == "e5-small"
    assert run.report["quality"]["accuracy"]["tuned"] >= 0.7
