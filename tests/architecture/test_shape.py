"""Files stay small, and what decides does not wait."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "aiosession"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 500

MAY_WAIT = {
    "aio.py",
    "errors.py",
    "events/hooks.py",
    "drivers",
    "engine/ddl.py",
    "engine/engine.py",
    "engine/execution.py",
    "engine/explaining.py",
    "engine/outcome.py",
    "engine/registry.py",
    "engine/replica.py",
    "engine/replicated.py",
    "engine/stack.py",
    "engine/transacting.py",
    "engine/streaming.py",
    "engine/transaction.py",
    "engine/wire.py",
    "transaction",
    "loading/columns.py",
    "loading/dml.py",
    "loading/everywhere.py",
    "loading/get.py",
    "loading/load.py",
    "loading/places.py",
    "loading/plans.py",
    "loading/query.py",
    "loading/relations.py",
    "loading/returning.py",
    "unit_of_work/announcing.py",
    "unit_of_work/execute.py",
    "unit_of_work/flush.py",
    "unit_of_work/placing.py",
    "unit_of_work/together.py",
    "unit_of_work/worklist.py",
    "session",
    "doctor",
    "ext",
    "command.py",
    "testing",
}
"""Everything else decides, and never waits."""
EVENT_LOOP = {
    "aio.py",
    "drivers",
    "command.py",
    "testing",
    "ext/relay.py",
    "ext/starlette/incoming.py",  # whether a client is gone is asked without waiting for an answer
    "ext/starlette/middleware.py",  # and a handler is cancelled for that
    "ext/starlette/exchange.py",
    "ext/starlette/requests.py",  # a session that a task still uses is closed a little later
    "ext/starlette/probing.py",  # a health check has a limit
    "ext/starlette/health.py",  # and asks all databases side by side
    "ext/starlette/lifespan.py",  # as the start of an application does
}
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


def waits(path: Path) -> bool:
    return any(isinstance(node, WAITING) for node in ast.walk(tree(path)))


def test_what_decides_never_waits() -> None:
    waiting = {name(path) for path in FILES if waits(path)}

    assert {file for file in waiting if MAY_WAIT.isdisjoint({file, file.split("/")[0]})} == set()


@pytest.mark.parametrize("part", sorted(MAY_WAIT))
def test_the_list_of_what_may_wait_is_no_longer_than_it_has_to_be(part: str) -> None:
    assert any(waits(path) for path in FILES if name(path) == part or name(path).startswith(f"{part}/"))


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if EVENT_LOOP.isdisjoint({name(path), name(path).split("/")[0]})],
    ids=name,
)
def test_only_drivers_and_aio_know_an_event_loop(path: Path) -> None:
    modules: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            modules.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            modules.add((node.module or "").split(".")[0])

    assert modules.isdisjoint({"asyncio", "anyio", "threading", "concurrent"})
