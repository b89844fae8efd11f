"""The names other tools taught people: accepted at the top level of a recipe, with a note that names ours."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

ACCUMULATION, ROWS = "gradient_accumulation_steps", "optimiser.rows_per_step"
NOTHING = ("none", "off", None, False)  # `evaluate: none`
BITS = {"load_in_8bit": 8, "load_in_4bit": 4}  # switches of one setting: one that is off says nothing of the other
ALIASES: dict[str, str] = {
    "model_name_or_path": "model", "base_model": "model", "model_id": "model", "model_name": "model",
    "dataset": "data.source", "datasets": "data.source", "dataset_path": "data.source", "data_path": "data.source",
    "train_file": "data.source", "dataset_name": "data.source",
    "cutoff_len": "data.max_tokens", "sequence_len": "data.max_tokens", "max_length": "data.max_tokens",
    "max_seq_length": "data.max_tokens", "max_seq_len": "data.max_tokens", "block_size": "data.max_tokens",
    "streaming": "data.streaming",
    "val_size": "data.validation", "val_set_size": "data.validation", "validation_split": "data.validation",
    "finetuning_type": "adapter.kind", "peft_type": "adapter.kind", "train_type": "adapter.kind",
    "lora_r": "adapter.rank", "lora_rank": "adapter.rank", "r": "adapter.rank",
    "lora_alpha": "adapter.alpha", "lora_dropout": "adapter.dropout",
    "lora_target": "adapter.targets", "lora_target_modules": "adapter.targets", "target_modules": "adapter.targets",
    "use_rslora": "adapter.rslora", "use_dora": "adapter.dora", "lora_use_dora": "adapter.dora",
    "num_train_epochs": "schedule.epochs", "num_epochs": "schedule.epochs", "epochs": "schedule.epochs",
    "max_steps": "schedule.steps",
    "learning_rate": "optimiser.learning_rate", "lr": "optimiser.learning_rate",
    "weight_decay": "optimiser.weight_decay", "max_grad_norm": "optimiser.clip",
    "adam_beta1": "optimiser.beta1", "adam_beta2": "optimiser.beta2", "adam_epsilon": "optimiser.epsilon",
    "warmup_ratio": "optimiser.warmup", "warmup_steps": "optimiser.warmup",
    "lr_scheduler_type": "optimiser.decay", "lr_scheduler": "optimiser.decay",
    "per_device_train_batch_size": "optimiser.rows_per_step", "train_batch_size": "optimiser.rows_per_step",
    "micro_batch_size": "optimiser.rows_per_step", "batch_size": "optimiser.rows_per_step",
    "eval_steps": "evaluate.every", "early_stopping_patience": "evaluate.patience",
    "max_new_tokens": "evaluate.new_tokens",
    "save_steps": "checkpoint.every", "save_total_limit": "checkpoint.keep",
    "train_on_inputs": "data.learn", "train_on_prompt": "data.learn", "mask_prompt": "data.learn",
    "optimizer": "optimiser", "bf16": "precision", "gradient_checkpointing": "optimiser.gradient_checkpointing",
    "quantization_bit": "quantise", "load_in_8bit": "quantise", "load_in_4bit": "quantise", "quantize": "quantise",
    "quantization": "quantise",
}  # fmt: skip

# Settings of other tools that ask for what is so anyway, or for nothing that changes a result.
NEEDLESS: dict[str, str] = {
    "packing": "rows are always packed without padding",
    "sample_packing": "rows are always packed without padding",
    "group_by_length": "rows are always packed without padding",
    "template": "the tokenizer's own chat template is used",
    "chat_template": "the tokenizer's own chat template is used",
    "report_to": "records.jsonl in the run folder holds every number",
    "logging_steps": "every update is recorded",
    "output_dir": "the run folder is given with --out",
    "resume_from_checkpoint": "a run goes on with --resume",
    "do_train": "fit always trains",
    "do_eval": "fit always measures; evaluate: none turns it off",
    "overwrite_output_dir": "a run never overwrites another",
    "stage": "the objective says what is learned",
    "fp16": "half precision of the 16-bit kind is not used; see precision",
    "flash_attn": "attention is chosen for the device",
    "dataloader_num_workers": "rows are read ahead of training",
    "bnb_4bit_compute_dtype": "products run in precision",
    "bnb_4bit_quant_type": "four bits are always nf4",
    "bnb_4bit_use_double_quant": "the scales of nf4 are always quantised too",
    "double_quantization": "the scales of nf4 are always quantised too",
    "quantization_method": "quantise names the format, and each has one maker",
    "quantization_type": "quantise names the format",
    "remove_unused_columns": "columns nobody needs are not read",
}

VALUES: dict[str, dict[str, Any]] = {
    "adapter.kind": {"freeze": "top_layers", "LORA": "lora", "none": "full"},
    "optimiser.decay": {"constant_with_warmup": "constant"},
    "adapter.targets": {"all": "all-linear", "all_linear": "all-linear"},
}


def translate(given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The recipe in our words, and one note for each word that was not ours. Our own words win, wherever they stand."""
    pairs, notes = whole_updates(list(given.items()))
    own = {key: value for key, value in pairs if not _is_theirs(key)}
    ours = copy.deepcopy(own)
    for key, value in pairs:
        if key in NEEDLESS:
            notes.append(f"{key} is not needed: {NEEDLESS[key]}")
        elif _is_theirs(key):
            path = ALIASES[key]
            notes.append(f"{key} is called {path} here")
            if key in BITS and not value and any(given.get(other) for other in BITS):
                continue
            place = f"tasks.0.{path}" if path.startswith("data.") and "tasks" in own and "data" not in own else path
            if _holds(own, place):
                notes[-1] += f"; {path} is given as well, and that counts"
            else:
                _try_put(ours, place, _value(key, path, value, given))
    return ours, notes


def whole_updates(pairs: list[tuple[str, Any]]) -> tuple[list[tuple[str, Any]], list[str]]:
    """Other tools cut an update in `gradient_accumulation_steps` batches; ours names the whole. What is left without
    that word, and a note of what became of it."""
    times = dict(pairs).get(ACCUMULATION)
    if times is None:
        return [(key, value) for key, value in pairs if key != ACCUMULATION], []
    left: list[tuple[str, Any]] = []
    said = "has no effect without a batch size: optimiser.rows_per_step is the whole update"
    for key, value in pairs:
        if ALIASES.get(key) == ROWS and isinstance(value, int) and isinstance(times, int):
            said = f"is not needed: {ROWS} is the whole update: {times} x {value} = {times * value}"
            value = times * value
        if key != ACCUMULATION:
            left.append((key, value))
    return left, [f"{ACCUMULATION} {said}"]


def _is_theirs(key: str) -> bool:
    return key in ALIASES or key in NEEDLESS


def _holds(own: Any, path: str) -> bool:
    """Whether a recipe in our words says something at a dotted path."""
    for name in path.split("."):
        if isinstance(own, str | list) and name in ("kind", "source"):
            return True
        if isinstance(own, list) and name.isdigit() and int(name) < len(own):
            own = own[int(name)]
        elif isinstance(own, dict) and name in own:
            own = own[name]
        else:
            return False
    return True


def _try_put(ours: dict[str, Any], path: str, value: Any) -> None:
    """What stands in the way is a fault that the recipe's own check names."""
    with contextlib.suppress(KeyError, IndexError, ValueError, TypeError, AttributeError):
        put(ours, path, value)


def _value(key: str, path: str, value: Any, given: Mapping[str, Any]) -> Any:
    if path == "precision":  # elsewhere, no bf16 is full precision unless fp16 is asked for
        return "bf16" if value is True else "fp32" if value is False and not given.get("fp16") else "auto"
    if path == "quantise":
        bits = BITS[key] if key in BITS and value is True else value
        return {8: "int8", 4: "nf4"}.get(bits, bits) if isinstance(bits, int) else bits
    if path == "data.learn" and isinstance(value, bool):
        return "all" if value is not (key == "mask_prompt") else "answers"
    return VALUES.get(path, {}).get(value, value) if isinstance(value, str) else value


def put(recipe: dict[str, Any], path: str, value: Any) -> None:
    """Sets a dotted path; a bare kind on the way becomes a mapping."""
    *parents, last = path.split(".")
    here: Any = recipe
    for name in parents:
        here = _step_into(here, name)
    if isinstance(here, list):
        here[int(last)] = value
    else:
        here[last] = value


def _step_into(here: Any, name: str) -> Any:
    if isinstance(here, list):
        index = int(name)
        if isinstance(here[index], str):
            here[index] = {"kind": here[index]}
        return here[index]
    if name.isdigit():
        raise KeyError(name)
    found = here.get(name)
    if name == "evaluate" and name in here and found in NOTHING:
        here[name] = {"enabled": False}
    elif name == "data" and isinstance(found, str | list):
        here[name] = {"source": found}
    elif isinstance(found, str):
        here[name] = {"kind": found}
    elif found is None:
        here[name] = {}
    return here[name]
