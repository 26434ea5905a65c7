import gc
import weakref
from collections.abc import Mapping

import pytest

from aiosession.errors import InvalidRequestError, NotLoadedError
from aiosession.state.group import LoadGroup
from aiosession.state.lifecycle import DELETED, DETACHED, PENDING, PERSISTENT, TRANSIENT
from aiosession.state.state import EntityState, is_stale, state_of
from aiosession.state.workspace import Workspace, workspace_of
from tests.unit.state.state_model import Author, Book, Chapter, Note, Session, flush, load, load_many, names


def test_adding_makes_pending_and_follows_relations(workspace: Workspace) -> None:
    author = Author(name="a", books=[Book(name="b", chapters=[Chapter(name="c")])])

    workspace.add(author)

    assert names(workspace.new) == ["a", "b", "c"]
    assert state_of(author.books[0]).lifecycle is PENDING
    assert workspace.contains(author)


def test_a_flushed_object_is_persistent_and_in_the_identity_map(workspace: Workspace) -> None:
    author = Author(name="a")
    workspace.add(author)

    flush(workspace)

    state = state_of(author)
    assert state.lifecycle is PERSISTENT
    assert workspace.identity_map[state.key] is author  # type: ignore[index]  # it has one now
    assert not workspace.new
    assert author.books == []


def test_clean_objects_are_held_weakly_and_changed_ones_strongly(workspace: Workspace) -> None:
    clean, changed = load(workspace, Author, 1, name="a"), load(workspace, Author, 2, name="b")
    changed.name = "c"
    clean_ref, changed_ref = weakref.ref(clean), weakref.ref(changed)

    del clean, changed
    gc.collect()

    assert clean_ref() is None
    assert changed_ref() is not None
    assert len(workspace.identity_map) == 1


def test_an_object_of_another_live_session_is_refused_naming_both(workspace: Workspace, session: Session) -> None:
    other_session = Session()
    other = Workspace(other_session)
    author = Author()
    other.add(author)

    with pytest.raises(InvalidRequestError, match="already in the session at") as caught:
        workspace.add(author)

    assert hex(id(session)) in str(caught.value)
    assert hex(id(other_session)) in str(caught.value)
    assert workspace_of(author) is other


def test_nothing_is_added_if_something_reached_cannot_be(workspace: Workspace) -> None:
    other = Workspace()
    note = Note()
    author = Author(books=[Book()], notes={note})
    other.add(note)

    with pytest.raises(InvalidRequestError, match="already in the session"):
        workspace.add(author)

    assert not workspace.new


def test_a_second_object_with_the_same_identity_is_refused_naming_the_key(workspace: Workspace) -> None:
    first = load(workspace, Author, 1, name="a")
    other = Workspace()
    second = load(other, Author, 1, name="a")
    other.clear()

    with pytest.raises(InvalidRequestError, match=r"Author\(1\)"):
        workspace.add(second)

    assert workspace.contains(first)


def test_a_detached_object_can_come_back_with_its_changes(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    workspace.expunge(author)
    assert state_of(author).status is DETACHED
    author.name = "b"

    workspace.add(author)

    assert state_of(author).lifecycle is PERSISTENT
    assert list(workspace.dirty.values()) == [author]


def test_expunging_a_stranger_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(InvalidRequestError, match="is not in this session"):
        workspace.expunge(Author())


def test_a_pending_object_becomes_transient_when_expunged(workspace: Workspace) -> None:
    author = Author()
    workspace.add(author)

    workspace.expunge(author)

    assert state_of(author).lifecycle is TRANSIENT
    assert not workspace.objects()


def test_expunge_follows_its_cascade(workspace: Workspace) -> None:
    book = Book(chapters=[Chapter()])
    workspace.add(book)

    workspace.expunge(book)

    assert not workspace.new


def test_deleting_needs_a_row(workspace: Workspace) -> None:
    with pytest.raises(InvalidRequestError, match="has no row"):
        workspace.mark_deleted(state_of(Author()))


def test_delete_then_flush_then_commit(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    state = state_of(author)
    workspace.mark_deleted(state)
    assert list(workspace.deleted.values()) == [author]

    flush(workspace)
    assert state.lifecycle is DELETED
    assert not workspace.contains(author)
    with pytest.raises(InvalidRequestError, match="has been deleted"):
        workspace.add(author)

    workspace.commit_frames()
    assert state.status is DETACHED


def test_adding_takes_back_a_mark_for_deletion(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    workspace.mark_deleted(state_of(author))

    workspace.add(author)

    assert not workspace.deleted


def test_clear_detaches_everything(workspace: Workspace) -> None:
    loaded, pending, gone = load(workspace, Author, 1), Author(), load(workspace, Author, 2)
    workspace.add(pending)
    workspace.mark_deleted(state_of(gone))
    flush_states = state_of(gone)
    workspace.make_deleted(flush_states)

    workspace.clear()

    assert [state_of(each).status for each in (loaded, pending, gone)] == [DETACHED, TRANSIENT, DETACHED]
    assert not workspace.objects()


def test_a_change_made_while_the_flush_was_awaiting_stays_dirty(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    author.name = "b"
    seen = workspace.changes_of(state_of(author))
    author.name = "c"

    workspace.record_written(state_of(author), seen)

    assert state_of(author).committed == {"name": "b"}
    assert list(workspace.dirty.values()) == [author]
    assert author.name == "c"


def test_a_change_of_a_pending_object_while_its_insert_was_awaiting_stays_dirty(workspace: Workspace) -> None:
    author = Author(name="a")
    workspace.add(author)
    state = state_of(author)
    author.name = "b"
    workspace.record_written(state, {"name": "a"})
    workspace.record_generated(state, {"id": 1})

    workspace.make_persistent(state, state.mapper.identity_key((1,)))

    assert state.committed == {"name": "a"}
    assert list(workspace.dirty.values()) == [author]


def test_a_collection_changed_while_the_flush_was_awaiting_stays_dirty(workspace: Workspace) -> None:
    author = load(workspace, Author, 1)
    author.__dict__.pop("books", None)
    state_of(author).inserted_here = True
    first, second = Book(name="1"), Book(name="2")
    author.books.append(first)
    seen = workspace.changes_of(state_of(author))
    author.books.append(second)

    workspace.record_written(state_of(author), seen)

    assert state_of(author).committed == {"books": (first,)}


def test_generated_values_replace_what_the_object_has(workspace: Workspace) -> None:
    book = load(workspace, Book, 1, author_id=1)
    book.author_id = 2

    workspace.record_generated(state_of(book), {"author_id": 3})

    assert book.author_id == 3
    assert not workspace.dirty


def test_expire_drops_changes_and_marks_stale(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    author.name = "b"

    workspace.expire(state_of(author))

    assert author.name == "a"
    assert is_stale(state_of(author), "name")
    assert not workspace.dirty


def test_expire_of_some_attributes_leaves_the_others(workspace: Workspace) -> None:
    book = load(workspace, Book, 1, name="a", author_id=1)
    book.name, book.author_id = "b", 2

    workspace.expire(state_of(book), ["name"])

    assert (book.name, book.author_id) == ("a", 2)
    assert is_stale(state_of(book), "name")
    assert not is_stale(state_of(book), "id")
    assert list(workspace.dirty.values()) == [book]


def test_expire_needs_a_persistent_object(workspace: Workspace) -> None:
    with pytest.raises(InvalidRequestError, match="transient"):
        workspace.expire(state_of(Author()))


def test_commit_leaves_values_readable_and_stale(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    workspace.commit_frames()

    assert author.name == "a"
    assert is_stale(state_of(author), "name")


def test_commit_without_expiry_leaves_values_fresh(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    workspace.commit_frames(expire=False)

    assert not is_stale(state_of(author), "name")


def test_loaded_values_end_staleness_and_changes(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    author.name = "b"
    state_of(author).expired = {"name"}

    workspace.set_loaded(state_of(author), "name", "c")

    assert author.name == "c"
    assert not workspace.dirty
    assert not is_stale(state_of(author), "name")


def test_changing_the_key_moves_the_object_in_the_identity_map(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    state = state_of(author)
    old, new = state.key, state.mapper.identity_key((2,))
    assert old is not None

    workspace.rekey(state, new)

    assert workspace.identity_map.get(new) is author
    assert old not in workspace.identity_map


def test_dropping_what_is_not_pending_does_nothing(workspace: Workspace) -> None:
    author = load(workspace, Author, 1)

    workspace.drop_pending(state_of(author))

    assert workspace.contains(author)


def test_expire_all_marks_everything_stale_and_drops_changes(workspace: Workspace) -> None:
    author, pending = load(workspace, Author, 1, name="a"), Author(name="p")
    workspace.add(pending)
    author.name = "b"

    workspace.expire_all()

    assert author.name == "a"
    assert is_stale(state_of(author), "name")
    assert pending.name == "p"


def test_strict_sessions_refuse_stale_values_after_expiry_and_savepoints() -> None:
    workspace = Workspace(stale_reads="raise")
    author, other = load(workspace, Author, 1, name="a"), load(workspace, Author, 2, name="x")
    assert workspace.stale_reads == "raise"
    workspace.expire(state_of(other), ["name"])
    workspace.push_frame()
    assert workspace.depth == 1
    author.name = "b"
    flush(workspace)
    workspace.rollback_frame()

    for each in (author, other):
        with pytest.raises(NotLoadedError, match="stale"):
            _ = each.name


def test_deleting_a_detached_object_takes_it_in(workspace: Workspace) -> None:
    author = load(workspace, Author, 1)
    workspace.expunge(author)

    workspace.mark_deleted(state_of(author))

    assert list(workspace.deleted.values()) == [author]
    assert workspace.contains(author)


def test_an_object_from_a_session_that_is_gone_can_be_added(workspace: Workspace) -> None:
    other = Workspace()
    author, pending = load(other, Author, 1, name="a"), Author()
    other.add(pending)
    del other

    workspace.add(author)
    workspace.add(pending)

    assert state_of(author).status is PERSISTENT
    assert state_of(pending).status is PENDING


def test_the_identity_map_is_read_like_a_mapping(workspace: Workspace) -> None:
    author = load(workspace, Author, 1)
    key = state_of(author).key
    assert key is not None
    identity_map = workspace.identity_map

    assert list(identity_map) == [key]
    assert list(identity_map.values()) == [author]
    assert list(identity_map.items()) == [(key, author)]
    assert isinstance(identity_map, Mapping)
    assert identity_map.state(key) is state_of(author)
    assert identity_map.live_states() == [state_of(author)]
    assert identity_map.get((Author, (2,), None)) is None
    with pytest.raises(KeyError):
        identity_map[(Author, (2,), None)]


def test_only_what_changed_meanwhile_of_an_unloaded_collection_stays_pending(workspace: Workspace) -> None:
    author = load(workspace, Author, 1)
    first, second = load(workspace, Book, 1, author_id=None), load(workspace, Book, 2, author_id=None)
    first.author = author
    seen = workspace.changes_of(state_of(author))
    second.author = author

    workspace.record_written(state_of(author), seen)

    assert workspace.changes_of(state_of(author))["books"].added == (second,)  # type: ignore[attr-defined]  # as recorded
    assert state_of(author) in workspace.dirty


def test_states_of_one_result_let_go_of_their_group_when_their_object_dies(workspace: Workspace) -> None:
    author = load(workspace, Author, 1)
    state = state_of(author)
    state.group = LoadGroup[EntityState]([state])

    del author
    assert state() is None
    load_many(workspace)

    assert state.group is None


def test_what_is_gone_takes_room_only_until_there_is_much_of_it(workspace: Workspace) -> None:
    kept = load(workspace, Author, 0)
    for _ in range(20):
        load_many(workspace)

    assert len(workspace.identity_map) == 1
    assert len(workspace.identity_map.states) < 2500
    assert list(workspace.identity_map.values()) == [kept]


def test_a_session_that_is_let_go_of_leaves_nothing_to_the_garbage_collector(workspace: Workspace) -> None:
    gc.disable()
    try:
        author = load(workspace, Author, 1)
        state = state_of(author)
        state.group = LoadGroup[EntityState]([state])
        gone = weakref.ref(state.group)
        workspace.clear()

        del author, state

        assert gone() is None
    finally:
        gc.enable()
