import pytest

from aiosession.state.attributes import set_committed_value
from aiosession.state.state import EntityState, state_of
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Book, Chapter, load


def is_orphan(state: EntityState) -> bool:
    """Whether an object was removed from its parent and has no other one."""
    return None in (state.parents or {}).values()


@pytest.fixture
def shelf(workspace: Workspace) -> tuple[Book, Book, Chapter]:
    first, second, chapter = load(workspace, Book, 1), load(workspace, Book, 2), load(workspace, Chapter, 3, book_id=1)
    set_committed_value(first, "chapters", [chapter])
    set_committed_value(second, "chapters", [])
    set_committed_value(chapter, "book", first)
    return first, second, chapter


def test_a_loaded_child_is_no_orphan(shelf: tuple[Book, Book, Chapter]) -> None:
    assert not is_orphan(state_of(shelf[2]))


def test_a_removed_child_is_an_orphan(shelf: tuple[Book, Book, Chapter]) -> None:
    first, _, chapter = shelf

    first.chapters.remove(chapter)

    assert is_orphan(state_of(chapter))
    assert chapter.book is None


def test_a_child_that_lets_go_of_its_parent_is_an_orphan(shelf: tuple[Book, Book, Chapter]) -> None:
    shelf[2].book = None

    assert is_orphan(state_of(shelf[2]))


def test_a_child_of_an_unloaded_collection_is_an_orphan_too(workspace: Workspace) -> None:
    book, chapter = load(workspace, Book, 1), load(workspace, Chapter, 3, book_id=1)

    chapter.book = None

    assert "chapters" not in book.__dict__
    assert is_orphan(state_of(chapter))


@pytest.mark.parametrize("order", ["remove first", "append first", "set the parent"])
def test_a_moved_child_is_no_orphan(order: str, shelf: tuple[Book, Book, Chapter]) -> None:
    first, second, chapter = shelf

    if order == "remove first":
        first.chapters.remove(chapter)
        second.chapters.append(chapter)
    elif order == "append first":
        second.chapters.append(chapter)
        assert first.chapters == []
    else:
        chapter.book = second

    assert not is_orphan(state_of(chapter))
    assert (first.chapters, second.chapters) == ([], [chapter])


def test_a_rollback_makes_it_a_child_again(shelf: tuple[Book, Book, Chapter], workspace: Workspace) -> None:
    first, _, chapter = shelf
    first.chapters.remove(chapter)

    workspace.rollback_all()

    assert not is_orphan(state_of(chapter))
    assert first.chapters == [chapter]
    assert chapter.book is first
