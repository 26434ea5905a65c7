"""The module ``aiosession.attributes``: attributes by name, for tools."""

import pytest

from aiosession import attributes
from aiosession.errors import ArgumentError, InvalidRequestError, NotLoadedError, UnmappedError
from aiosession.state.history import History
from aiosession.state.state import state_of
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, flush, load


def test_attributes_are_read_set_and_deleted_by_name(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    attributes.set_attribute(author, "name", "b")
    assert attributes.get_attribute(author, "name") == "b"
    assert attributes.get_history(author, "name") == History(("b",), (), ("a",))
    attributes.del_attribute(author, "name")
    assert attributes.get_attribute(author, "name") is None

    with pytest.raises(NotLoadedError):
        attributes.get_attribute(author, "books")
    for call in (attributes.get_attribute, attributes.del_attribute, attributes.get_history):
        with pytest.raises(ArgumentError, match="did you mean 'name'"):
            call(author, "nam")
    with pytest.raises(ArgumentError, match="did you mean 'name'"):
        attributes.set_attribute(author, "nam", "b")


def test_setting_a_relation_by_name_keeps_both_sides_in_step() -> None:
    author, book = Author(), Book()

    attributes.set_attribute(author, "books", [book])

    assert book.author is author


def test_a_committed_value_is_no_change(workspace: Workspace) -> None:
    author, book = load(workspace, Author, 1, name="a"), load(workspace, Book, 1, name="b")

    attributes.set_committed_value(author, "name", "z")
    attributes.set_committed_value(author, "books", [book])
    attributes.set_committed_value(book, "author", author)

    assert (author.name, list(author.books), book.author) == ("z", [book], author)
    assert not workspace.dirty


def test_a_collection_can_be_begun_empty(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    books = attributes.init_collection(author, "books")

    assert author.books is books
    assert books == []
    assert not workspace.dirty
    with pytest.raises(ArgumentError, match="is not a collection"):
        attributes.init_collection(author, "name")


def test_a_flagged_attribute_counts_as_modified(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    attributes.flag_modified(author, "name")

    assert state_of(author) in workspace.dirty
    assert attributes.get_history(author, "name") == History(("a",), (), ())
    with pytest.raises(InvalidRequestError, match="has no value for 'books'"):
        attributes.flag_modified(author, "books")


def test_a_flagged_object_is_looked_at_by_the_flush_and_has_no_change(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    attributes.flag_dirty(author)

    assert state_of(author) in workspace.dirty
    assert not attributes.instance_state(author).modified


def test_what_is_known_of_an_object_can_be_had() -> None:
    author = Author(name="a")

    assert attributes.instance_state(author).transient
    assert attributes.instance_dict(author)["name"] == "a"
    assert attributes.is_instrumented(author, "books")
    assert not attributes.is_instrumented(author, "metadata")
    for call in (attributes.instance_state, attributes.instance_dict):
        with pytest.raises(UnmappedError):
            call("x")


def test_a_history_can_be_summed_up(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    kept, gone, come = (load(workspace, Book, key, name="b") for key in (1, 2, 3))
    attributes.set_committed_value(author, "books", [kept, gone])
    author.books = [kept, come]

    history = attributes.get_history(author, "books")

    assert history.has_changes()
    assert bool(history)
    assert not history.empty()
    assert history.sum() == [come, kept, gone]
    assert history.non_added() == [kept, gone]
    assert history.non_deleted() == [come, kept]
    assert attributes.get_history(Author(), "name").empty()
    flush(workspace)
    assert not attributes.get_history(author, "books").has_changes()


def test_a_value_that_nobody_has_is_told_from_none() -> None:
    assert attributes.instance_state(Author()).attrs.name.loaded_value is attributes.NO_VALUE
