"""Files stay small, and what decides does not wait."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "aiosession"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 500

PURE = [
    "mapping",
    "declarative",
    "state",
    "sql",
    "core.py",
    "engine/result.py",
    "engine/row.py",
    "loading/hydrate.py",
    "loading/plan.py",
    "loading/shapes.py",
    "loading/options.py",
    "unit_of_work/plan.py",
    "unit_of_work/planning.py",
    "unit_of_work/ordering.py",
    "unit_of_work/settle.py",
    "session/binds.py",
    "session/objects.py",
    "session/options.py",
]
EVENT_LOOP = {"aio.py", "drivers", "testing"}
WAITING = (ast.Await, ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith)


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_files_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", FILES, ids=name)
def test_modules_say_what_they_are_for(path: Path) -> None:
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("part", PURE)
def test_what_is_pure_never_waits(part: str) -> None:
    place = PACKAGE / part
    assert place.exists()
    waiting = [
        f"{name(path)}:{node.lineno}"
        for path in (sorted(place.rglob("*.py")) if place.is_dir() else [place])
        for node in ast.walk(tree(path))
        if isinstance(node, WAITING)
    ]

    assert not waiting


@pytest.mark.parametrize("path", [path for path in FILES if name(path).split("/")[0] not in EVENT_LOOP], ids=name)
def test_only_drivers_and_aio_know_an_event_loop(path: Path) -> None:
    modules: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            modules.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").split(".")[0])

    assert modules.isdisjoint({"asyncio", "anyio", "threading", "concurrent"})
