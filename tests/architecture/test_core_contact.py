"""SQLAlchemy Core is used by its public names, but for one package; its engine and its ORM are not used at all."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiosession
from aiosession import events

PACKAGE = Path(__file__).parents[2] / "aiosession"
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")
}
CONTACT = [file for file in TREES if file.startswith("core/")]
NEVER = ("sqlalchemy.orm", "sqlalchemy.ext", "sqlalchemy.engine", "sqlalchemy.pool", "sqlalchemy.event")
ENGINES = {"create_engine", "Connection", "Engine", "Result", "inspect", "event"}
"""Public names of ``sqlalchemy`` itself that stand for its own engine, or have one owner for each type."""

BRIDGED = {"anyio", "opentelemetry", "fastapi", "pydantic", "starlette"}
"""What extensions connect sessions with; each is imported by its own extension only, and nowhere else."""


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield module and name of everything that is imported; the name is empty for whole modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names_used(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and name of every private attribute that is read, set or asked for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"getattr", "setattr"}:
            asked = node.args[1] if len(node.args) > 1 else None
            if isinstance(asked, ast.Constant) and is_private(str(asked.value)):
                yield node.lineno, str(asked.value)


def private_names_defined(tree: ast.Module) -> Iterator[str]:
    """Yield the private attributes that are ours: methods and fields in class bodies, and what is set on ``self``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield member.name
                elif isinstance(member, ast.AnnAssign):
                    yield ast.unparse(member.target)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


OURS = {name for file, tree in TREES.items() if file not in CONTACT for name in private_names_defined(tree)}
OF_DRIVERS = {"drivers/asyncmy.py": {"_stream_broken"}}
"""Private names of other libraries that a driver looks at and can do without."""


@pytest.mark.parametrize("file", TREES)
def test_neither_the_other_orm_nor_its_engine_is_imported(file: str) -> None:
    found = list(imported(TREES[file]))
    modules = [module for module, name in found if f"{module}.{name}.".startswith(tuple(f"{each}." for each in NEVER))]
    names = [name for module, name in found if module == "sqlalchemy" and name in ENGINES]

    assert not modules + names


@pytest.mark.parametrize("file", [file for file in TREES if file not in CONTACT])
def test_private_names_of_core_are_used_in_one_package_only(file: str) -> None:
    found = list(imported(TREES[file]))
    if not any(
        module.split(".")[0] == "sqlalchemy" or (module, name) == ("aiosession", "core") for module, name in found
    ):
        return
    strange = [
        f"{name} in line {line}"
        for line, name in private_names_used(TREES[file])
        if name not in OURS | OF_DRIVERS.get(file, set())
    ]

    assert not strange
    assert not [name for module, name in found if module.startswith("sqlalchemy") and is_private(name)]


@pytest.mark.parametrize("file", [file for file in TREES if file.startswith("ext/")])
def test_extensions_import_public_names_only(file: str) -> None:
    foreign = [
        f"{module}.{name}"
        for module, name in imported(TREES[file])
        if module.split(".")[0] not in {*sys.stdlib_module_names, "sqlalchemy", "typing_extensions", *BRIDGED}
        and not (module == "aiosession" and name in aiosession.__all__)
        and not (module == "aiosession.events" and name in events.__all__)
        and not module.startswith(("aiosession.ext.", "aiosession.errors"))  # an extension may have several parts
    ]

    assert not foreign


@pytest.mark.parametrize("file", list(TREES))
def test_frameworks_are_imported_by_their_own_extensions_only(file: str) -> None:
    frameworks = {module.split(".")[0] for module, _ in imported(TREES[file])} & (BRIDGED - {"anyio"})
    allowed = {
        "ext/fastapi.py": {"fastapi", "starlette"},
        "ext/pydantic.py": {"pydantic"},
        "ext/opentelemetry.py": {"opentelemetry"},
    }

    assert frameworks <= allowed.get(file, {"starlette"} if file.startswith("ext/starlette/") else set())


def test_the_contact_is_where_these_tests_look_for_it() -> None:
    assert any(name not in OURS for file in CONTACT for _, name in private_names_used(TREES[file]))
