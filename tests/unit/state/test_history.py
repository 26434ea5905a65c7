"""History, checked against a model that only remembers the last flushed and the present value."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func

from aiosession.errors import ArgumentError, InvalidRequestError
from aiosession.state.attributes import (
    del_attribute,
    flag_dirty,
    flag_modified,
    get_attribute,
    get_history,
    init_collection,
    merge_loaded_collection,
    set_attribute,
    set_committed_value,
)
from aiosession.state.history import History
from aiosession.state.lifecycle import PERSISTENT
from aiosession.state.reading import is_modified
from aiosession.state.state import state_of
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, Profile, flush, load

VALUES = st.one_of(st.none(), st.integers(0, 2), st.sampled_from(["a", "b", 1.0, True]))


def scalar_history(before: Any, now: Any) -> History:
    if before == now:
        return History((), (now,), ())
    return History((now,), (), (before,))


@given(VALUES, st.lists(st.one_of(VALUES.map(lambda value: ("set", value)), st.just(("flush", None))), max_size=8))
def test_scalars_agree_with_a_model(loaded: Any, steps: list[tuple[str, Any]]) -> None:
    workspace = Workspace()
    author = load(workspace, Author, 1, name=loaded)
    before = now = loaded
    for name, value in steps:
        if name == "flush":
            flush(workspace)
            before = now
        else:
            author.name = now = value
        history = get_history(author, "name")
        assert [tuple(part) for part in history] == [tuple(part) for part in scalar_history(before, now)]
        assert is_modified(author) == bool(history)


POOL = st.integers(0, 4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "remove"]), POOL),
        st.tuples(st.just("replace"), st.lists(POOL, max_size=4)),
        st.tuples(st.just("flush")),
    ),
    max_size=10,
)


@given(st.lists(POOL, unique=True), STEPS)
def test_collections_agree_with_a_model(loaded: list[int], steps: list[tuple[Any, ...]]) -> None:
    workspace = Workspace()
    pool = [load(workspace, Book, number) for number in range(5)]
    for book in pool:
        set_committed_value(book, "author", None)
    author = load(workspace, Author, 1)
    set_committed_value(author, "books", [pool[index] for index in loaded])
    before = list(author.books)
    for name, *rest in steps:
        if name == "flush":
            flush(workspace)
            before = list(author.books)
        elif name == "replace":
            author.books = [pool[index] for index in rest[0]]
        elif name == "append":
            author.books.append(pool[rest[0]])
        elif pool[rest[0]] in author.books:
            author.books.remove(pool[rest[0]])
        history, now = get_history(author, "books"), author.books
        assert set(history.added) == set(now) - set(before)
        assert set(history.deleted) == set(before) - set(now)
        assert set(history.unchanged) == set(now) & set(before)


def test_a_new_object_has_only_additions() -> None:
    author = Author(name="a", books=[Book()], profile=None)

    assert get_history(author, "name") == (("a",), (), ())
    assert get_history(author, "books").added == [*author.books]
    assert get_history(author, "profile") == ((None,), (), ())
    assert get_history(author, "notes").empty()


def test_a_relation_of_one_object_compares_objects_not_values(workspace: Workspace) -> None:
    author, old, new = load(workspace, Author, 1), load(workspace, Profile, 1), load(workspace, Profile, 2)
    set_committed_value(author, "profile", old)
    assert get_history(author, "profile") == ((), (old,), ())

    author.profile = new
    assert get_history(author, "profile") == ((new,), (), (old,))

    author.profile = None
    assert get_history(author, "profile") == ((None,), (), (old,))


def test_what_was_not_loaded_is_not_listed_as_deleted(workspace: Workspace) -> None:
    author = load(workspace, Author, 1)

    author.name = "b"

    assert get_history(author, "name") == (("b",), (), ())


def test_an_expression_is_a_change_whatever_it_says(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    author.name = func.upper("a")

    assert get_history(author, "name").added == (author.__dict__["name"],)
    assert is_modified(author)


def test_a_history_can_be_summed_up() -> None:
    history = History(["new"], ["same"], ["old"])

    assert history.sum() == ["new", "same", "old"]
    assert history.non_deleted() == ["new", "same"]
    assert history.non_added() == ["same", "old"]
    assert history
    assert not History((), ["same"], ())
    assert History((), (), ()).empty()


def test_flag_modified_makes_a_change_of_an_unchanged_value(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    flag_modified(author, "name")

    assert get_history(author, "name") == (("a",), (), ())
    assert list(workspace.dirty.values()) == [author]
    with pytest.raises(InvalidRequestError, match="no value for 'books'"):
        flag_modified(author, "books")


def test_flag_dirty_only_has_the_flush_look(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    flag_dirty(author)

    assert list(workspace.dirty.values()) == [author]
    assert not is_modified(author)


def test_set_committed_value_leaves_no_trace(workspace: Workspace) -> None:
    author, book = load(workspace, Author, 1, name="a"), load(workspace, Book, 2)
    author.name = "b"

    set_committed_value(author, "name", "c")
    set_committed_value(author, "books", [book])

    assert (author.name, author.books) == ("c", [book])
    assert not workspace.dirty
    assert "author" not in book.__dict__
    assert not is_modified(author)


def test_merging_a_loaded_collection_twice_keeps_the_same_collection(workspace: Workspace) -> None:
    author, book = load(workspace, Author, 1), load(workspace, Book, 2)
    books = merge_loaded_collection(state_of(author), "books", [])

    merge_loaded_collection(state_of(author), "books", [book])

    assert author.books is books
    assert books == [book]


def test_attributes_by_name() -> None:
    author = Author()

    set_attribute(author, "name", "a")
    assert get_attribute(author, "name") == "a"

    del_attribute(author, "name")
    assert author.name is None
    assert init_collection(author, "books") == []


@pytest.mark.parametrize("function", [get_attribute, del_attribute, get_history, flag_modified, init_collection])
def test_a_wrong_name_is_refused_with_a_hint(function: Any) -> None:
    with pytest.raises(ArgumentError, match="no mapped attribute 'nam'; did you mean 'name'"):
        function(Author(), "nam")


def test_init_collection_wants_a_collection() -> None:
    with pytest.raises(ArgumentError, match=r"Author\.name is not a collection"):
        init_collection(Author(), "name")


def test_an_object_that_is_new_is_modified_if_it_holds_anything(workspace: Workspace) -> None:
    assert is_modified(Author(name="a"))
    assert not is_modified(Author())
    assert state_of(load(workspace, Author, 1)).lifecycle is PERSISTENT
