"""Collections changed behind their own back, of every kind."""

from typing import Any

import pytest

from aiosession.state.attributes import set_committed_value
from aiosession.state.collections import attribute_keyed_dict, new_collection
from aiosession.state.contents import add_silently, holds, members, refill, remove_silently
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, Mark, Note, load


class Pile:
    """A collection that is neither list nor set nor dictionary."""

    def __init__(self) -> None:
        self.content: list[Any] = []

    def append(self, member: Any) -> None:
        self.content.append(member)

    def remove(self, member: Any) -> None:
        self.content.remove(member)

    def __iter__(self) -> Any:
        return iter(self.content)


@pytest.mark.parametrize("kind", [list, set, attribute_keyed_dict("name"), Pile])
def test_any_kind_of_collection_is_read_and_refilled(kind: Any) -> None:
    first, second, third = Mark(name="1"), Mark(name="2"), Mark(name="3")
    collection = new_collection(kind, None)

    refill(collection, [first, second])
    assert set(members(collection)) == {first, second}

    add_silently(collection, third)
    assert holds(collection, third)

    assert remove_silently(collection, first)
    assert not remove_silently(collection, first)
    assert set(members(collection)) == {second, third}

    refill(collection, ())
    assert members(collection) == ()


def test_a_dictionary_gets_its_members_back_under_the_keys_they_had(workspace: Workspace) -> None:
    book, mark = load(workspace, Book, 1), load(workspace, Mark, 1, name="old")
    set_committed_value(book, "marks", [mark])
    marks = book.marks
    mark.name = "new"
    marks.clear()
    marks.set(mark)

    workspace.rollback_all()

    assert marks == {"old": mark}
    assert book.marks is marks


def test_a_set_gets_its_members_back(workspace: Workspace) -> None:
    author, note = load(workspace, Author, 1), load(workspace, Note, 1)
    set_committed_value(author, "notes", [note])

    author.notes = set()
    workspace.rollback_all()

    assert author.notes == {note}


def test_a_member_that_takes_the_place_of_another_is_told_apart() -> None:
    collection = new_collection(attribute_keyed_dict("name"), None)
    first, second = Mark(name="x"), Mark(name="x")

    assert add_silently(collection, first) is None
    assert add_silently(collection, second) is first
