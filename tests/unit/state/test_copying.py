import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from aiosession.state.attributes import get_history, set_committed_value
from aiosession.state.collections import InstrumentedDict, InstrumentedList, InstrumentedSet
from aiosession.state.copying import make_copyable
from aiosession.state.lifecycle import DETACHED, TRANSIENT
from aiosession.state.state import state_of
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, Mark, Note, load, names


def repickled(obj: object) -> object:
    return pickle.loads(pickle.dumps(obj))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, repickled])
def test_a_graph_comes_back_as_a_detached_graph_of_its_own(
    duplicate: Callable[[Author], Author], workspace: Workspace
) -> None:
    author, book = load(workspace, Author, 1, name="a"), load(workspace, Book, 2, name="b")
    set_committed_value(author, "books", [book])
    set_committed_value(book, "author", author)
    author.name = "c"

    twin = duplicate(author)

    assert state_of(twin).status is DETACHED
    assert get_history(twin, "name") == (("c",), (), ("a",))
    assert twin.books[0].author is twin
    assert twin.books[0] is not book
    workspace.clear()
    workspace.add(twin)
    assert len(workspace.objects()) == 2


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, repickled])
def test_collections_of_copies_are_watched(duplicate: Callable[[object], Any]) -> None:
    twin, other = duplicate(Author(books=[Book()], notes={Note()})), duplicate(Book(marks={"x": Mark(name="x")}))
    assert isinstance(twin, Author)

    assert (type(twin.books), type(twin.notes), type(other.marks)) == (
        InstrumentedList,
        InstrumentedSet,
        InstrumentedDict,
    )
    book = Book()
    twin.books.append(book)
    assert book.author is twin


def test_a_shallow_copy_is_a_transient_object_with_the_same_values(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    twin: Author = copy.copy(author)
    twin.name = "b"

    assert state_of(twin).lifecycle is TRANSIENT
    assert state_of(twin)() is twin
    assert (author.name, twin.name, twin.id) == ("a", "b", 1)
    assert not workspace.dirty


def test_a_deep_copy_of_pending_objects_can_be_added(workspace: Workspace) -> None:
    author = Author(name="a", books=[Book(name="b")])
    workspace.add(author)

    workspace.add(copy.deepcopy(author))

    assert names(workspace.new) == ["a", "b", "a", "b"]


def test_an_object_that_was_never_touched_is_copied_as_any_other() -> None:
    assert copy.copy(Author(name="a")).name == "a"


def test_a_class_with_its_own_way_of_coming_back_keeps_it() -> None:
    own = Author.__setstate__  # type: ignore[attr-defined]  # put there by the mapping

    make_copyable(Author.__mapper__)

    assert Author.__setstate__ is own  # type: ignore[attr-defined]  # put there by the mapping
