"""The rules of CONTRIBUTING.md, read off the source: who imports whom, who may ask, print and define, how large."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "tuneful"
LAYERS = {
    "core": 0,
    "data": 1, "models": 1, "adapters": 1, "objectives": 1, "regularisers": 1, "environments": 1,
    "schedules": 2, "engine": 2, "evaluation": 2, "repairs": 2,
    "recipe": 3,
    "run": 4, "testing": 4,
    "autopilot": 5, "ship": 5,
    "cli": 6, "__init__": 6, "__main__": 7,
}  # fmt: skip
FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
            found += [f"{node.module}.{alias.name}" for alias in node.names if node.module == "tuneful"]
    return found


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return str(path.relative_to(SOURCE))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    own = room(path)
    for module in imports(parse(path)):
        if not module.startswith("tuneful."):
            continue
        other = module.split(".")[1]
        if other == own or other == "__version__":
            continue
        assert other in LAYERS, f"{module} is in no layer"
        assert LAYERS[other] < LAYERS[own], (
            f"{name_of(path)} (layer {LAYERS[own]}) imports {module} (layer {LAYERS[other]})"
        )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_relative_and_no_star_imports(path: Path) -> None:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} is a relative import"
            assert all(alias.name != "*" for alias in node.names), f"line {node.lineno} is a star import"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_device_asks_for_the_machine(path: Path) -> None:
    if name_of(path) == "core/device.py":
        return
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            for word in ("os.environ", "os.getenv", "torch.cuda", "torch.backends", "torch.distributed"):
                assert not dotted.startswith(word), f"line {node.lineno} asks for {dotted}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    if room(path) == "cli":
        return
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "click.echo"), f"line {node.lineno} prints"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_processors_know_a_modality(path: Path) -> None:
    if name_of(path) == "models/processors.py":
        return
    for node in ast.walk(parse(path)):
        name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None) or ""
        assert "image" not in str(name).lower(), f"line {getattr(node, 'lineno', 0)}: {name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_errors_that_people_read_are_defined_in_one_place(path: Path) -> None:
    if name_of(path) == "core/errors.py":
        return
    people = {
        "TunefulError",
        "InputError",
        "RecipeError",
        "DataError",
        "ModelError",
        "CheckpointError",
        "RunFolderError",
    }
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            assert not bases & people, f"line {node.lineno} defines an error of its own"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sizes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, "a file is at most 400 lines (aim for 300)"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines (at most 60, aim for 40)"


def test_engine_never_sees_a_recipe() -> None:
    for path in (SOURCE / "engine").glob("*.py"):
        assert "recipe" not in {module.split(".")[1] for module in imports(parse(path)) if module.count(".")}


@pytest.mark.parametrize("module", ["tuneful", "tuneful.cli"])
def test_import_brings_no_torch(module: str) -> None:
    code = f"import {module}, sys; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
