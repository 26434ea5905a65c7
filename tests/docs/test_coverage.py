"""The page about coverage is complete, names tests that exist, and calls that can be made."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Never, get_args

import pytest
from sqlalchemy import Column

import aiosession
from aiosession import (
    AsyncSession,
    AsyncSessionTransaction,
    History,
    InstanceState,
    async_sessionmaker,
    attributes,
    mapped_column,
    relationship,
)
from aiosession.events import catalogue
from tests.docs.coverage_page import HEADER, NONE, PAGE, PLANNED, Line, lines

TEXT = PAGE.read_text()
LINES = list(lines(TEXT))
CODE = "\n".join(code for line in LINES if not line.is_planned for code in line.code)

SUBJECTS: Mapping[str, Any] = {
    "session": AsyncSession,
    "AsyncSession": AsyncSession,
    "maker": async_sessionmaker,
    "transaction": AsyncSessionTransaction,
    "state": InstanceState,
    "history": History,
    "attributes": attributes,
}
"""What the words in front of a dot stand for."""


MAPPING = """
    AsyncAttrs DeclarativeBase InstrumentedAttribute Mapped MappedAsDataclass Mapper MappingError
    OverlappingRelationshipsWarning UnknownAttributeError attribute_keyed_dict column_keyed_dict column_property
    configure_mappers declared_attr deferred foreign keyfunc_mapping registry remote
"""
ENGINES = """
    AsyncConnection AsyncEngine AsyncTransaction AsyncTwoPhaseTransaction DataError DatabaseError DeadlockError
    DisconnectError InternalError
    LockNotAvailableError NotSupportedError OperationalError PoolTimeoutError ProgrammingError SerializationError
    StatementTimeoutError WrongEventLoopError create_async_engine
"""
LOADING = """
    AsyncMappingResult AsyncResult AsyncScalarResult Load MappingResult Result Row RowMapping ScalarResult
    contains_eager defaultload defer immediateload joinedload lazyload load_only raiseload selectinload subqueryload
    undefer undefer_group with_loader_criteria with_parent
"""
ERRORS_OF_OTHER_PAGES = "AioSessionError ArgumentError CheckViolationError ForeignKeyViolationError"

ELSEWHERE = {*MAPPING.split(), *ENGINES.split(), *LOADING.split(), *ERRORS_OF_OTHER_PAGES.split()}
"""Public names that belong to other chapters: of mapping, of engines, of queries."""


PARTS = {"binds", "context", "dispatch"}
"""Attributes of a session, or a maker, that only their own modules use."""


# The rows


def test_every_table_has_the_known_columns() -> None:
    headers = [line for line in TEXT.splitlines() if line.startswith("| Feature")]

    assert headers
    assert set(headers) == {HEADER}
    assert all(line.feature and line.calls for line in LINES)


def test_every_row_names_a_test_or_gives_a_reason() -> None:
    assert not [str(line) for line in LINES if line.test == NONE and not line.note]


def test_every_named_test_exists() -> None:
    missing = [f"{line}: {test.path}::{test.name}" for line in LINES for test in line.tests if not test.exists]

    assert not missing, "\n".join(missing)


def test_nothing_is_pending() -> None:
    pending = [f"{line}: {line.test}" for line in LINES if not line.is_well_formed]

    assert not pending, "\n".join(pending)


def test_what_is_planned_says_so_and_names_no_test() -> None:
    planned = [line for line in LINES if line.is_planned]

    assert all(line.test == NONE for line in planned)
    assert all("not built yet" in line.note or "will not come" in line.note for line in planned)
    assert all("not built yet" not in line.note.lower() or PLANNED in line.note for line in LINES if line.test != NONE)


# Calls on the page can be made


@pytest.mark.parametrize(
    "line",
    [line for line in LINES if not line.is_planned and line.is_well_formed],
    ids=lambda line: f"line {line.number}",
)
def test_calls_can_be_made(line: Line) -> None:
    for code in line.code:
        for subject, name in re.findall(rf"\b({'|'.join(SUBJECTS)})\.(\w+)", code):
            assert hasattr(SUBJECTS[subject], name), f"{subject} has no {name!r}"
        for function, given in re.findall(r"([\w.]+)\(([^()]*=[^()]*)\)", code):
            keywords, known = set(re.findall(r"\b(\w+)=", given)), known_keywords(function)
            assert known is None or keywords <= known, f"{function}() takes {sorted(known)}"


def known_keywords(function: str) -> set[str] | None:
    """Return the keywords of something that is called on the page; None for what belongs elsewhere."""
    subject, _, method = function.rpartition(".")
    if subject in SUBJECTS:
        options = parameters(AsyncSession) if subject == "maker" else set()
        return parameters(getattr(SUBJECTS[subject], method)) | options
    return {
        "AsyncSession": parameters(AsyncSession),
        "async_sessionmaker": parameters(async_sessionmaker) | parameters(AsyncSession),
        "maker": parameters(AsyncSession),
        "relationship": parameters(relationship),
        "backref": parameters(relationship),
        "mapped_column": parameters(mapped_column) | parameters(Column),
    }.get(function)


# What there is, is on the page


def test_every_public_name_is_on_the_page_or_belongs_elsewhere() -> None:
    missing = [name for name in aiosession.__all__ if name not in ELSEWHERE and not mentioned(rf"\b{name}\b")]

    assert not missing
    assert set(aiosession.__all__) >= ELSEWHERE


@pytest.mark.parametrize("subject", sorted(SUBJECTS.keys() - {"AsyncSession"}))
def test_every_public_attribute_is_on_the_page(subject: str) -> None:
    missing = [name for name in public_names(SUBJECTS[subject]) if not mentioned(rf"\b{words_for(subject)}\.{name}\b")]

    assert not missing


@pytest.mark.parametrize("name", sorted({*catalogue.SESSION, *catalogue.EVERY_CLASS, *catalogue.ATTRIBUTE}))
def test_every_event_is_on_the_page(name: str) -> None:
    assert mentioned(rf'\blisten\([^\n]*"{name}"')


@pytest.mark.parametrize("constructor", [AsyncSession, async_sessionmaker])
def test_every_parameter_of_a_constructor_is_on_the_page(constructor: Callable[..., Any]) -> None:
    name = constructor.__name__
    missing = [each for each in parameters(constructor) if not mentioned(rf"\b{name}\([^\n]*\b{each}\b")]

    assert not missing


@pytest.mark.parametrize("subject", ["session", "transaction", "history", "attributes"])
def test_every_parameter_of_a_method_is_on_the_page(subject: str) -> None:
    methods = {name: getattr(SUBJECTS[subject], name) for name in public_names(SUBJECTS[subject])}
    missing = [
        f"{name}({parameter})"
        for name, method in methods.items()
        if inspect.isroutine(method)
        for parameter in parameters(method)
        if not mentioned(rf"\b{words_for(subject)}\.{name}\([^\n]*\b{parameter}\b")
    ]

    assert not missing


def mentioned(pattern: str) -> bool:
    """Whether some call on the page matches a pattern."""
    return re.search(pattern, CODE) is not None


def words_for(subject: str) -> str:
    """Return a pattern of the words that stand for the same thing as *subject*."""
    return f"(?:{'|'.join(word for word, meant in SUBJECTS.items() if meant is SUBJECTS[subject])})"


def public_names(subject: Any) -> Iterable[str]:
    """Return what a module gives away, or the public attributes of a class, without what its bases have from Python."""
    given: Iterable[str] | None = getattr(subject, "__all__", None)
    if given is not None:
        return given
    return [
        name for name in dir(subject) if not name.startswith("_") and not hasattr(tuple, name) and name not in PARTS
    ]


def parameters(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's parameters, those of ``**how: Unpack[HowToGet]`` included.

    What takes ``Never`` is there to say what is wrong.
    """
    found = set()
    for name, each in inspect.signature(function).parameters.items():
        if each.annotation is Never:
            continue
        if each.kind is not each.VAR_KEYWORD:
            found.add(name)
        elif accepted := get_args(each.annotation):
            found |= accepted[0].__annotations__.keys()
    return found - {"self", "unknown"}
