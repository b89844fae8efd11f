"""The whole run as one validated value."""

from tuneful.recipe.gates import Gates
from tuneful.recipe.model import Checkpoint, Recipe, Save
from tuneful.recipe.reading import from_mapping, from_yaml, schema
from tuneful.recipe.task import Data, Source, Task

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
