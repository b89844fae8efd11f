"""`tuneful check --augment`: training rows before and after they are said otherwise."""

from __future__ import annotations

from difflib import SequenceMatcher

from rich.text import Text

from tuneful.cli.show import console, note
from tuneful.core.errors import InputError
from tuneful.data.augment import AUGMENTATIONS
from tuneful.data.augment.reread import all_texts
from tuneful.recipe import Recipe
from tuneful.run.prepare import Prepared
from tuneful.run.variants import some, with_variants
from tuneful.run.vary import samples

SHOWN = 8  # rows


def refuse_without(recipe: Recipe) -> None:
    """Raises InputError where the recipe names no augmentation to show."""
    if not recipe.augment:
        kinds = ", ".join(AUGMENTATIONS.kinds())
        raise InputError(f"--augment: this recipe names no augmentation; add --set augment=KIND, of {kinds}")


def augmented_json(prepared: Prepared) -> list[dict[str, str]]:
    return [
        {"row": str(before.place), "before": one, "after": other}
        for before, after in samples(with_variants(some(prepared), note, sample=True), SHOWN)
        for one, other in zip(all_texts(before), all_texts(after), strict=True)
        if one != other
    ]


def show_augmented(prepared: Prepared) -> None:
    """What is new stands out in colour, and in brackets where there is no colour."""
    console.print(Text("\nAugmented", style="bold"))
    for found in augmented_json(prepared):
        console.print(Text(f"{found['row']}\n  - {found['before']}", style="dim"), soft_wrap=True)
        console.print(Text("  + ").append_text(_marked(found["before"], found["after"])), soft_wrap=True)


def _marked(before: str, after: str) -> Text:
    text = Text()
    for kind, _, _, start, end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            text.append(after[start:end])
        else:
            text.append("\u27e6", style="green dim").append(after[start:end], style="bold green")
            text.append("\u27e7", style="green dim")
    return text
