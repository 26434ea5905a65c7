import gc
import pickle
import weakref
from dataclasses import dataclass

import pytest

from aiosession.errors import UnmappedError
from aiosession.state.lifecycle import DETACHED, PERSISTENT, TRANSIENT
from aiosession.state.state import STATE_KEY, EntityState, is_stale, state_of, state_or_none
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, load


def test_a_state_needs_nothing_but_its_object() -> None:
    author = Author()

    state = EntityState(author)

    assert state() is author
    assert state.mapper is Author.__mapper__
    assert (state.key, state.lifecycle, state.committed, state.expired, state.pending) == (
        None,
        TRANSIENT,
        None,
        None,
        None,
    )
    assert (state.epoch, state.group, state.workspace, state.inserted_here) == (0, None, None, False)


def test_an_unknown_name_is_not_a_default() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        state_of(Author()).nonsense  # noqa: B018 - reading is the test


def test_a_state_is_made_at_the_first_touch_and_kept() -> None:
    author = Author()

    assert state_or_none(author) is None
    assert state_of(author) is state_of(author)
    assert author.__dict__[STATE_KEY] is state_or_none(author)


@pytest.mark.parametrize("stranger", [object(), 3, "x", Author, None])
def test_what_is_not_a_mapped_object_is_refused(stranger: object) -> None:
    with pytest.raises(UnmappedError, match="mapped"):
        state_of(stranger)


def test_states_are_compared_by_identity_even_if_objects_are_equal_or_unhashable() -> None:
    @dataclass
    class Point:
        x: int

    first, second = Point(1), Point(1)

    states = {EntityState(first): 1, EntityState(second): 2}

    assert sorted(states.values()) == [1, 2]


def test_objects_and_states_are_freed_without_the_garbage_collector(workspace: Workspace) -> None:
    gc.disable()
    try:
        author = load(workspace, Author, 1, name="a")
        author.__dict__["books"] = None
        state = state_of(author)
        gone = weakref.ref(author)

        del author

        assert gone() is None
        assert state() is None
        assert not workspace.identity_map.values()
    finally:
        gc.enable()


def test_objects_with_collections_are_freed_without_the_garbage_collector(workspace: Workspace) -> None:
    gc.disable()
    try:
        author = Author(books=[Book(name="b")])
        assert author.notes == set()
        gone = weakref.ref(author)
        author.books.clear()

        del author

        assert gone() is None
    finally:
        gc.enable()


def test_a_dead_object_does_not_take_a_newer_one_out_of_the_identity_map(workspace: Workspace) -> None:
    first = load(workspace, Author, 1, name="a")
    second = Author.__new__(Author)
    state = state_of(second)
    key = state_of(first).key
    assert key is not None
    workspace.identity_map.states[key] = state

    del first

    assert workspace.identity_map.get(key) is second


def test_a_pickled_object_comes_back_detached_with_its_values(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    author.name = "b"

    copy = pickle.loads(pickle.dumps(author))

    assert (copy.id, copy.name) == (1, "b")
    assert state_of(copy).status is DETACHED
    assert state_of(copy).committed == {"name": "a"}
    assert state_of(copy)() is copy


def test_a_dropped_workspace_leaves_its_objects_detached() -> None:
    workspace = Workspace()
    author = load(workspace, Author, 1, name="a")
    pending = Author(name="p")
    workspace.add(pending)
    assert state_of(author).status is PERSISTENT

    del workspace

    assert state_of(author).status is DETACHED
    assert state_of(pending).status is TRANSIENT
    assert author.name == "a"


def test_staleness_is_by_epoch_and_by_name_and_never_of_own_changes(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    state = state_of(author)
    assert not is_stale(state, "name")

    workspace.commit_frames(expire=True)
    assert is_stale(state, "name")

    author.name = "b"
    assert not is_stale(state, "name")
    assert is_stale(state, "id")
