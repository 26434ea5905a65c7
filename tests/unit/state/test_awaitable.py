from collections.abc import Awaitable
from typing import Any

import pytest

from aiosession.errors import NotLoadedError
from aiosession.state.awaitable import awaitable_attrs
from aiosession.state.state import EntityState, state_of
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, flush, load


def result(awaitable: Awaitable[Any]) -> Any:
    """Drive an awaitable that never waits to its end."""
    generator = awaitable.__await__()
    with pytest.raises(StopIteration) as stopped:
        next(iter(generator))
    return stopped.value.value


@pytest.fixture
def asked(workspace: Workspace) -> list[tuple[Any, str]]:
    """Have attributes loaded as the text "loaded", and list what was asked for."""
    asked: list[tuple[Any, str]] = []

    async def load_attribute(state: EntityState, name: str) -> object:
        asked.append((state(), name))
        return "loaded"

    workspace.load_attribute = load_attribute
    return asked


def test_what_is_in_memory_and_fresh_is_given_without_loading(workspace: Workspace, asked: list[Any]) -> None:
    author = load(workspace, Author, 1, name="a")

    assert result(awaitable_attrs(author).name) == "a"
    assert asked == []


def test_what_is_missing_is_loaded(workspace: Workspace, asked: list[Any]) -> None:
    author = load(workspace, Author, 1)

    assert result(awaitable_attrs(author).books) == "loaded"
    assert asked == [(author, "books")]


def test_what_is_stale_is_loaded(workspace: Workspace, asked: list[Any]) -> None:
    author = load(workspace, Author, 1, name="a")
    workspace.commit_frames()

    assert result(awaitable_attrs(author).name) == "loaded"


def test_what_was_changed_is_given_as_it_is(workspace: Workspace, asked: list[Any]) -> None:
    author = load(workspace, Author, 1, name="a")
    workspace.commit_frames()
    author.name = "b"

    assert result(awaitable_attrs(author).name) == "b"


def test_what_is_known_to_be_empty_is_not_loaded(workspace: Workspace, asked: list[Any]) -> None:
    author = Author()
    workspace.add(author)
    assert result(awaitable_attrs(author).books) == []
    flush(workspace)

    assert result(awaitable_attrs(author).notes) == set()
    assert asked == []


def test_the_object_lives_while_it_is_loaded(workspace: Workspace, asked: list[Any]) -> None:
    loading = awaitable_attrs(load(workspace, Author, 1)).books

    result(loading)

    assert asked[0][0] is not None


def test_without_session_there_is_only_what_is_in_memory(workspace: Workspace, asked: list[Any]) -> None:
    author = load(workspace, Author, 1, name="a")
    workspace.expunge(author)

    assert result(awaitable_attrs(author).name) == "a"
    with pytest.raises(NotLoadedError, match="detached"):
        _ = awaitable_attrs(author).books


def test_without_loader_an_unloaded_attribute_raises(workspace: Workspace) -> None:
    with pytest.raises(NotLoadedError):
        _ = awaitable_attrs(load(workspace, Author, 1)).books


def test_a_wrong_name_is_an_attribute_error_with_a_hint() -> None:
    with pytest.raises(AttributeError, match="'boks'; did you mean 'books'"):
        _ = awaitable_attrs(Author()).boks


def test_the_attributes_can_be_listed() -> None:
    assert "books" in dir(awaitable_attrs(Author()))
    assert state_of(Book()).group is None
