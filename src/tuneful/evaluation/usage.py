"""Python that loads what a run folder holds, with plain transformers and peft: the card shows it, a test runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuneful.evaluation import phrases
from tuneful.evaluation.phrases import Say, as_literal
from tuneful.models.embedded import EMBEDDED

READ_LABELS = """\
labels = json.loads(Path("recipe.lock.json").read_text(encoding="utf-8"))["labels"]
"""
LOAD_ADAPTER = """\
# {elsewhere}
base = PeftConfig.from_pretrained("{folder}").base_model_name_or_path
tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = {auto}.from_pretrained(base{labels})
model = PeftModel.from_pretrained(model, "{folder}").eval()
"""
LOAD_MODEL = """\
tokenizer = AutoTokenizer.from_pretrained("model")
model = {auto}.from_pretrained("model").eval()
"""
ASK_CHAT = """\
messages = [{{"role": "user", "content": {example}}}]
inputs = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
"""
ASK_TEXT = """\
inputs = tokenizer({example}, return_tensors="pt")
"""
STOP = """\
stop = tokenizer.convert_tokens_to_ids({token})
"""
WRITE = """\
written = model.generate(**inputs, max_new_tokens=256, do_sample=False{stop})
print(tokenizer.decode(written[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""
LOAD_SENTENCE = """\
model = SentenceTransformer("model", device="cpu")
config = model[0].auto_model.config
"""
READ_SENTENCE = """\
logits = model.encode([{example}], convert_to_tensor=True)[0]
"""
READ = """\
inputs = tokenizer({example}, truncation=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits[0]
"""
RATE_CHAT = """\
messages = [{{"role": "user", "content": {asked}}}, {{"role": "assistant", "content": {answer}}}]
inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
"""
RATE_PAIR = """\
inputs = tokenizer({asked}, {answer}, truncation=True, return_tensors="pt")
"""
RATE = """\
model.config.pad_token_id = tokenizer.pad_token_id or tokenizer.eos_token_id
with torch.no_grad():
    print(float(model(**inputs).logits[0, 0]))
"""
FILL = """\
inputs = tokenizer({example} + " " + tokenizer.mask_token, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits[0]
hidden = inputs["input_ids"][0] == tokenizer.mask_token_id
print(tokenizer.decode(logits[hidden].argmax(-1)))
"""
SEARCH = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("model", device="cpu")
documents = {documents}
found = model.encode(documents, prompt_name="document")  # once; keep them

asked = model.encode([{query}], prompt_name="query")[0]
scores = found @ asked  # cosines: all vectors have unit length
for place in scores.argsort()[::-1][:10]:
    print(round(float(scores[place]), 3), documents[place])
"""
PLACE = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("model", device="cpu")
vectors = model.encode([{example}])
print(vectors.shape)
"""
TELL = {
    "class": "print(model.config.id2label[int(logits.argmax())])\n",
    "labels": "print([model.config.id2label[i] for i, logit in enumerate(logits.tolist()) if logit > 0])\n",
    "number": "print(float(logits[0]))\n",
}


def usage(report: Mapping[str, Any], say: Say) -> str:
    """From the run folder to one answer. The folder `adapter` for LoRA, `model` for tuned weights."""
    if phrases.target_of(report) == "documents":
        shown = ", ".join(as_literal(say[f"card_example_{name}"]) for name in ("document", "other"))
        return SEARCH.format(documents=f"[{shown}]", query=as_literal(say["card_example_query"]))
    if phrases.target_of(report) in phrases.PLACES:
        return PLACE.format(example=as_literal(say["card_example_label"]))
    if phrases.is_pooled(report):
        return _pooled(report, say)
    if phrases.target_of(report) == "tokens":
        auto = "AutoModelForMaskedLM"
        fill = FILL.format(example=as_literal(say["card_example_text"]))
        return _imports(auto, True, False) + LOAD_MODEL.format(auto=auto) + "\n" + fill
    if phrases.target_of(report) == "reward":
        return _rating(report, say)
    reads, adapter = phrases.target_of(report) != "text", phrases.adapter_of(report) == "lora"
    auto = "AutoModelForSequenceClassification" if reads else "AutoModelForCausalLM"
    parts = [_imports(auto, reads, adapter)]
    if reads and adapter:
        parts.append(READ_LABELS)
    labels = ", num_labels=len(labels), id2label=dict(enumerate(labels))" if reads else ""
    load = LOAD_ADAPTER if adapter else LOAD_MODEL
    folder = _folder(report)
    parts.append(load.format(auto=auto, elsewhere=_elsewhere(report, say), labels=labels, folder=folder))
    return "".join([*parts, "\n", _reading(report, say) if reads else _writing(report, say)])


def _rating(report: Mapping[str, Any], say: Say) -> str:
    """A number for an answer; a model with a template reads both as a conversation."""
    auto, adapter = "AutoModelForSequenceClassification", phrases.adapter_of(report) == "lora"
    load = (LOAD_ADAPTER if adapter else LOAD_MODEL).format(
        auto=auto, elsewhere=_elsewhere(report, say), labels=", num_labels=1", folder="adapter"
    )
    given = {"asked": as_literal(say["card_example"]), "answer": as_literal(say["card_example_text"])}
    read = (RATE_CHAT if report["data"].get("template") else RATE_PAIR).format(**given)
    imports = "import torch\n" + ("from peft import PeftConfig, PeftModel\n" if adapter else "")
    return f"{imports}from transformers import {auto}, AutoTokenizer\n\n{load}\n{read}{RATE}"


def _folder(report: Mapping[str, Any]) -> str:
    """Of the adapter; where each task has its own, of the first."""
    tasks = list(report["routing"].get("tasks", ())) if report.get("routing") else []
    return f"adapters/{tasks[0]}" if tasks else "adapter"


def _pooled(report: Mapping[str, Any], say: Say) -> str:
    """A head over the mean of a text is no head of transformers' own, and is one of sentence-transformers."""
    tell = TELL[phrases.target_of(report)].replace("model.config", "config")
    read = READ_SENTENCE.format(example=as_literal(say["card_example_label"]))
    return "from sentence_transformers import SentenceTransformer\n\n" + LOAD_SENTENCE + "\n" + read + tell


def _elsewhere(report: Mapping[str, Any], say: Say) -> str:
    """What stands for the base where this computer's folder is not."""
    name = phrases.model_name(report)
    kind = "embedded" if name in EMBEDDED else "hub" if "/" in name else "folder"
    return say[f"card_base_{kind}"].format(name=name)


def _imports(auto: str, reads: bool, adapter: bool) -> str:
    """Standard library, then the rest, each in the order of their names."""
    standard = "import json\nfrom pathlib import Path\n\n" if reads and adapter else ""
    torch = "import torch\n" if reads else ""
    peft = "from peft import PeftConfig, PeftModel\n" if adapter else ""
    return f"{standard}{torch}{peft}from transformers import {auto}, AutoTokenizer\n\n"


def _reading(report: Mapping[str, Any], say: Say) -> str:
    texts = ["card_example_label"]
    if report["data"].get("layout") == "labelled_pair":
        texts.append("card_example_second")
    example = ", ".join(as_literal(say[text]) for text in texts)
    return READ.format(example=example) + TELL[phrases.target_of(report)]


def _writing(report: Mapping[str, Any], say: Say) -> str:
    plain = report["data"].get("layout") == "text"
    ask = ASK_TEXT if plain else ASK_CHAT
    example = as_literal(say["card_example_text" if plain else "card_example"])
    token = (report["data"].get("stop_token") or {}).get("token")
    stop = STOP.format(token=as_literal(token)) if token else ""
    return ask.format(example=example) + stop + WRITE.format(stop=", eos_token_id=stop" if token else "")
