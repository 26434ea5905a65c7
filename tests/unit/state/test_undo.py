"""What rollback and savepoints do to objects, checked against snapshots of everything."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiosession.state.attributes import merge_loaded_collection, set_committed_value
from aiosession.state.contents import members
from aiosession.state.lifecycle import DELETED, PENDING, PERSISTENT, TRANSIENT
from aiosession.state.relations import is_known_empty
from aiosession.state.state import is_stale, state_of
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, Chapter, Note, Tag, flush, load, load_many


def test_rollback_restores_values_that_were_only_set(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    author.name = "b"

    workspace.rollback_all()

    assert author.name == "a"
    assert is_stale(state_of(author), "name")
    assert not workspace.dirty


def test_rollback_restores_values_that_were_flushed(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    author.name = "b"
    flush(workspace)
    author.name = "c"
    flush(workspace)

    workspace.rollback_all()

    assert author.name == "a"


def test_rollback_makes_inserted_objects_transient_without_generated_values(workspace: Workspace) -> None:
    author = Author(name="a")
    workspace.add(author)
    flush(workspace)
    workspace.set_loaded(state_of(author), "notes", None)

    workspace.rollback_all()

    assert state_of(author).lifecycle is TRANSIENT
    assert state_of(author).key is None
    assert {key for key in author.__dict__ if not key.startswith("_")} == {"name"}
    assert not workspace.objects()
    workspace.add(author)
    assert state_of(author).lifecycle is PENDING


def test_a_primary_key_set_by_the_user_stays(workspace: Workspace) -> None:
    author = Author(id=5)
    workspace.add(author)
    flush(workspace)

    workspace.rollback_all()

    assert author.id == 5


def test_rollback_lets_pending_objects_go(workspace: Workspace) -> None:
    author = Author(name="a")
    workspace.add(author)

    workspace.rollback_all()

    assert state_of(author).lifecycle is TRANSIENT
    assert not workspace.new


def test_rollback_brings_deleted_objects_back(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    workspace.mark_deleted(state_of(author))
    flush(workspace)
    assert state_of(author).lifecycle is DELETED

    workspace.rollback_all()

    assert state_of(author).lifecycle is PERSISTENT
    assert list(workspace.identity_map.values()) == [author]
    assert not workspace.deleted


def test_an_object_inserted_and_deleted_in_the_transaction_is_transient(workspace: Workspace) -> None:
    author = Author()
    workspace.add(author)
    flush(workspace)
    workspace.mark_deleted(state_of(author))
    flush(workspace)

    workspace.rollback_all()

    assert state_of(author).lifecycle is TRANSIENT
    assert not workspace.objects()


def test_a_row_deleted_and_inserted_anew_comes_back_as_the_old_object(workspace: Workspace) -> None:
    old = load(workspace, Author, 1, name="old")
    workspace.mark_deleted(state_of(old))
    flush(workspace)
    new = Author(id=1, name="new")
    workspace.add(new)
    flush(workspace)

    workspace.rollback_all()

    assert list(workspace.identity_map.values()) == [old]
    assert state_of(new).lifecycle is TRANSIENT


def test_rollback_gives_the_old_key_back(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    state = state_of(author)
    old = state.key
    author.id = 2
    flush(workspace)
    workspace.rekey(state, state.mapper.identity_key((2,)))
    workspace.rekey(state, state.mapper.identity_key((3,)))

    workspace.rollback_all()

    assert (author.id, state.key) == (1, old)
    assert list(workspace.identity_map.keys()) == [old]


def test_two_objects_that_exchanged_their_keys_get_them_back(workspace: Workspace) -> None:
    first, second = load(workspace, Author, 1), load(workspace, Author, 2)
    key = state_of(first).mapper.identity_key
    workspace.rekey(state_of(first), key((3,)))
    workspace.rekey(state_of(second), key((1,)))
    workspace.rekey(state_of(first), key((2,)))

    workspace.rollback_all()

    assert workspace.identity_map.get(key((1,))) is first
    assert workspace.identity_map.get(key((2,))) is second
    assert len(workspace.identity_map) == 2


def test_collections_are_restored_in_place(workspace: Workspace) -> None:
    author, book = load(workspace, Author, 1), load(workspace, Book, 1)
    set_committed_value(author, "books", [book])
    set_committed_value(book, "author", author)
    books = author.books
    books.append(Book())
    flush(workspace)
    books.remove(book)

    workspace.rollback_all()

    assert author.books is books
    assert books == [book]
    assert book.author is author


def test_a_collection_learned_about_after_unloaded_changes_is_not_known_any_more(workspace: Workspace) -> None:
    author = load(workspace, Author, 1)
    book = Book(author=author)
    workspace.add(book)
    flush(workspace)
    merge_loaded_collection(state_of(author), "books", [book])

    workspace.rollback_all()

    assert "books" not in author.__dict__


def test_a_value_nobody_knows_any_more_is_restored_too(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    author.name = Author.name + "b"
    workspace.record_unknown(state_of(author), ["name"])
    assert "name" not in author.__dict__

    workspace.rollback_all()

    assert author.name == "a"


def test_a_released_savepoint_is_undone_with_its_transaction(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    author.name = "b"
    flush(workspace)
    workspace.push_frame()
    author.name = "c"
    flush(workspace)
    workspace.release_frame()
    assert author.name == "c"

    workspace.rollback_all()

    assert author.name == "a"


def test_a_rolled_back_savepoint_leaves_the_rest_of_the_transaction(workspace: Workspace) -> None:
    author, other = load(workspace, Author, 1, name="a"), load(workspace, Author, 2, name="x")
    author.name = "b"
    flush(workspace)
    workspace.push_frame()
    author.name = "c"
    inner = Author(name="inner")
    workspace.add(inner)
    flush(workspace)

    workspace.rollback_frame()

    assert author.name == "b"
    assert state_of(inner).lifecycle is TRANSIENT
    assert is_stale(state_of(author), "name")
    assert not is_stale(state_of(other), "name")


def test_what_was_pending_when_the_savepoint_began_is_pending_again(workspace: Workspace) -> None:
    author = Author(name="a")
    workspace.add(author)
    workspace.push_frame()
    author.name = "b"
    flush(workspace)

    workspace.rollback_frame()

    assert state_of(author).lifecycle is PENDING
    assert list(workspace.new.values()) == [author]
    assert author.name == "a"
    assert "id" not in author.__dict__


def test_a_dead_object_leaves_nothing_in_the_undo_record(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    author.name = "b"
    flush(workspace)
    assert workspace.frame.values

    del author
    load_many(workspace)

    assert not workspace.frame.values


def test_an_object_expunged_in_the_transaction_is_left_alone(workspace: Workspace) -> None:
    author = Author()
    workspace.add(author)
    flush(workspace)
    workspace.expunge(author)

    workspace.rollback_all()

    assert state_of(author).key is not None


def test_changes_of_a_deleted_object_are_undone(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    workspace.mark_deleted(state_of(author))
    flush(workspace)
    author.name = "b"

    workspace.rollback_all()

    assert author.name == "a"
    assert not workspace.dirty


Snapshot = dict[str, Any]


class UndoMachine(RuleBasedStateMachine):
    """Random changes, flushes and savepoints; a rollback has to give exactly what was there at the beginning."""

    def __init__(self) -> None:
        super().__init__()
        self.workspace = Workspace()
        self.next_id = 100
        self.objects: list[Any] = []
        self.snapshots: list[list[tuple[Any, Snapshot]]] = []
        for number in range(3):
            self.objects.append(self._loaded(Author, number, name="n", books=[], notes=[], profile=None))
            self.objects.append(self._loaded(Book, number, name="n", author_id=None, author=None, tags=[], chapters=[]))
            self.objects.append(self._loaded(Tag, number, name="n", books=[]))
        self.snapshots.append(self._snapshot())

    def _loaded(self, class_: type[Any], identity: int, **values: Any) -> Any:
        obj = load(self.workspace, class_, identity)
        for key, value in values.items():
            set_committed_value(obj, key, value)
        return obj

    def _look(self, obj: Any) -> Snapshot:
        state = state_of(obj)
        relations = state.mapper.relationships
        values = {
            key: frozenset(value)
            if isinstance(value, set)
            else members(value)
            if key in relations and relations[key].uselist
            else value
            for key, value in obj.__dict__.items()
            if key in state.mapper.attributes
        }
        never_touched = [
            key for key, value in values.items() if value in ((), frozenset()) and is_known_empty(state, key)
        ]
        for key in never_touched:  # reading makes an empty collection, which is no change
            del values[key]
        changes = {
            key: value for key, value in (state.committed or {}).items() if key != "notes" and value != values.get(key)
        }
        marks = (obj in self.workspace.deleted.values(), state in self.workspace.new)
        return {"values": values, "life": state.lifecycle, "key": state.key, "marks": marks, "changes": changes}

    def _snapshot(self) -> list[tuple[Any, Snapshot]]:
        return [(obj, self._look(obj)) for obj in self.objects]

    def _of(self, class_: type[Any], index: int) -> Any:
        found = [obj for obj in self.objects if isinstance(obj, class_) and self.workspace.contains(obj)]
        return found[index % len(found)] if found else None

    INDEX = st.integers(0, 5)

    @rule(index=INDEX, name=st.sampled_from("abc"))
    def rename(self, index: int, name: str) -> None:
        if (author := self._of(Author, index)) is not None:
            author.name = name

    @rule(index=INDEX, other=INDEX)
    def move_book(self, index: int, other: int) -> None:
        book, author = self._of(Book, index), self._of(Author, other)
        if book is not None:
            book.author = author

    @rule(index=INDEX, other=INDEX)
    def toggle_tag(self, index: int, other: int) -> None:
        book, tag = self._of(Book, index), self._of(Tag, other)
        if book is None or tag is None:
            return
        if tag in book.tags:
            tag.books.remove(book)
        else:
            book.tags.append(tag)

    @rule(index=INDEX)
    def replace_books(self, index: int) -> None:
        author, book = self._of(Author, index), self._of(Book, index + 1)
        if author is not None and book is not None:
            author.books = [book]

    @rule(index=INDEX)
    def add_book(self, index: int) -> None:
        book = Book(name="new", chapters=[Chapter(name="c")])
        self.objects += [book, book.chapters[0]]
        if (author := self._of(Author, index)) is not None:
            author.books.append(book)

    @rule(index=INDEX)
    def add_note(self, index: int) -> None:
        if (author := self._of(Author, index)) is not None:
            note = Note(name="note")
            author.notes.add(note)
            self.objects.append(note)

    @rule(index=INDEX)
    def delete(self, index: int) -> None:
        book = self._of(Book, index)
        if book is not None and state_of(book).lifecycle is PERSISTENT:
            self.workspace.mark_deleted(state_of(book))

    @rule()
    def flush(self) -> None:
        self.next_id += 100
        flush(self.workspace, next_id=self.next_id)

    @rule()
    def savepoint(self) -> None:
        self.snapshots.append(self._snapshot())
        self.workspace.push_frame()

    @precondition(lambda self: len(self.snapshots) > 1)
    @rule()
    def release(self) -> None:
        self.snapshots.pop()
        self.workspace.release_frame()

    @precondition(lambda self: len(self.snapshots) > 1)
    @rule()
    def rollback_savepoint(self) -> None:
        self.workspace.rollback_frame()
        self._compare(self.snapshots.pop())

    @rule()
    def rollback(self) -> None:
        self.workspace.rollback_all()
        self._compare(self.snapshots[0])
        del self.snapshots[1:]

    @rule()
    def commit(self) -> None:
        flush(self.workspace, next_id=self.next_id + 50)
        self.next_id += 100
        self.workspace.commit_frames()
        self.objects = [obj for obj in self.objects if self.workspace.contains(obj)]
        self.snapshots = [self._snapshot()]

    def _compare(self, wanted: list[tuple[Any, Snapshot]]) -> None:
        for obj, expected in wanted:
            assert self._look(obj) == expected
        known = {id(obj) for obj, _ in wanted}
        for obj in self.objects:
            if id(obj) not in known:
                assert state_of(obj).lifecycle is TRANSIENT
        self.objects = [obj for obj, _ in wanted]

    @invariant()
    def the_workspace_agrees_with_the_states(self) -> None:
        for obj in self.objects:
            state = state_of(obj)
            assert (state in self.workspace.new) == (state.lifecycle is PENDING)
            if state.lifecycle is PERSISTENT:
                assert state.key is not None
                assert self.workspace.identity_map.get(state.key) is obj
                if state.committed:
                    assert state in self.workspace.dirty
            else:
                assert state not in self.workspace.dirty


UndoMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestUndo = UndoMachine.TestCase
