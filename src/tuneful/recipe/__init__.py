"""The whole run as one validated value."""

from tuneful.recipe.gates import Gates
from tuneful.recipe.model import Checkpoint, Data, Recipe, Save, Source, Task
from tuneful.recipe.reading import from_mapping, from_yaml, schema

__all__ = [
    "Checkpoint",
    "Data",
    "Gates",
    "Recipe",
    "Save",
    "Source",
    "Task",
    "from_mapping",
    "from_yaml",
    "schema",
]
