from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, func

from aiosession.errors import ArgumentError, InvalidRequestError, NotLoadedError
from aiosession.mapping.mapper import ColumnAttribute
from aiosession.state import instrumentation
from aiosession.state.attributes import get_history, merge_loaded_collection, set_committed_value
from aiosession.state.history import History
from aiosession.state.instrumentation import instrument, uninstrument
from aiosession.state.reading import is_modified
from aiosession.state.state import state_of, state_or_none
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import (
    Author,
    Book,
    Chapter,
    Entity,
    Node,
    Profile,
    Tag,
    flush,
    load,
    map_class,
    names,
)


def test_the_class_has_the_sql_attribute() -> None:
    assert Author.name is Author.__dict__["name"]
    assert str(Author.name == "x") == "author.name = :name_1"


@pytest.mark.parametrize("place", ["transient", "pending"])
def test_an_attribute_never_set_reads_as_nothing_and_records_no_change(place: str, workspace: Workspace) -> None:
    author = Author()
    if place == "pending":
        workspace.add(author)

    assert (author.name, author.profile, author.books, author.notes) == (None, None, [], set())
    assert not is_modified(author)
    assert "name" not in author.__dict__


def test_what_is_appended_to_a_collection_never_set_is_seen(workspace: Workspace) -> None:
    author = Author()
    workspace.add(author)

    author.books.append(Book(name="b"))

    assert names(workspace.new) == [None, "b"]


def test_setting_a_scalar_of_a_new_object_makes_no_state() -> None:
    author = Author(name="a")

    assert state_or_none(author) is None


@pytest.mark.parametrize("name", ["name", "books", "profile"])
def test_an_unloaded_attribute_of_a_persistent_object_raises_and_says_what_to_do(
    name: str, workspace: Workspace
) -> None:
    author = load(workspace, Author, 7)

    with pytest.raises(NotLoadedError) as caught:
        getattr(author, name)

    error = caught.value
    assert (error.owner, error.attribute, error.key) == (Author, name, "Author(7)")
    assert f"await session.load(author, Author.{name})" in error.remedy
    assert f"await author.awaitable_attrs.{name}" in error.remedy


def test_a_detached_object_says_that_it_is_detached(workspace: Workspace) -> None:
    author = load(workspace, Author, 7)
    workspace.clear()

    with pytest.raises(NotLoadedError, match=r"detached.*selectinload\(Author.books\)"):
        _ = author.books


def test_collections_never_touched_are_empty_after_the_insert(workspace: Workspace) -> None:
    author = Author(name="a")
    workspace.add(author)
    flush(workspace)

    author.books.append(Book())

    assert len(workspace.new) == 1
    assert author.profile is None


def test_collections_never_touched_stay_empty_after_commit_but_not_after_expiry(workspace: Workspace) -> None:
    author = Author(name="a")
    workspace.add(author)
    flush(workspace)
    workspace.commit_frames()
    assert author.books == []

    workspace.expire(state_of(author), ["notes"])

    with pytest.raises(NotLoadedError):
        _ = author.notes


def test_a_many_to_one_with_empty_foreign_key_is_known_to_be_none(workspace: Workspace) -> None:
    assert load(workspace, Book, 1, author_id=None).author is None
    with pytest.raises(NotLoadedError):
        _ = load(workspace, Book, 2, author_id=5).author


def test_a_stale_value_is_refused_where_the_session_is_strict() -> None:
    workspace = Workspace(stale_reads="raise")
    author = load(workspace, Author, 1, name="a", books=None)
    set_committed_value(author, "books", [])
    books = author.books
    workspace.commit_frames()

    with pytest.raises(NotLoadedError, match="stale"):
        _ = author.name
    with pytest.raises(NotLoadedError, match="stale"):
        _ = author.books
    assert author.id == 1

    workspace.set_loaded(state_of(author), "name", "b")
    assert author.name == "b"
    set_committed_value(author, "books", [])
    assert author.books is books


def test_a_stale_value_that_is_set_has_the_last_known_one_as_history() -> None:
    workspace = Workspace(stale_reads="raise")
    author = load(workspace, Author, 1, name="a")
    workspace.commit_frames()

    author.name = "b"

    assert get_history(author, "name") == History(["b"], (), ["a"]) or get_history(author, "name").deleted == ("a",)


def test_deciding_about_unloaded_reads_can_be_replaced(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrumentation, "on_unloaded", lambda _state, _obj, attribute: f"no {attribute.key}")

    assert load(workspace, Author, 1).name == "no name"


@pytest.mark.parametrize("wrong", ["x", 3, Author()])
def test_a_relation_refuses_objects_of_other_classes_naming_everything(wrong: object) -> None:
    author, book = Author(), Book()

    with pytest.raises(ArgumentError, match=r"Author\.books takes objects of Book"):
        author.books.append(wrong)
    with pytest.raises(ArgumentError, match=r"Book\.tags takes objects of Tag"):
        book.tags = [wrong]
    with pytest.raises(ArgumentError, match=r"Profile\.author takes objects of Author"):
        Profile(author=book)
    with pytest.raises(ArgumentError, match="None"):
        book.tags.append(None)
    assert book.tags == []


@pytest.mark.parametrize("wrong", ["text", b"bytes", 3, None, {"a": 1}])
def test_a_collection_refuses_what_is_no_collection(wrong: object) -> None:
    with pytest.raises(ArgumentError, match=r"Author\.books is a collection"):
        Author(books=wrong)


def test_an_object_of_another_session_is_refused_before_anything_changes(workspace: Workspace) -> None:
    other = Workspace()
    author = load(workspace, Author, 1)
    set_committed_value(author, "books", [])
    book = load(other, Book, 2)

    with pytest.raises(InvalidRequestError, match=r"Book\(2\) is already in the session"):
        author.books.append(book)

    assert author.books == []
    assert "author" not in book.__dict__


def test_an_unloaded_collection_cannot_be_replaced(workspace: Workspace) -> None:
    with pytest.raises(NotLoadedError):
        load(workspace, Author, 1).books = []


def test_names_that_are_not_mapped_are_plain_python() -> None:
    author = Author()

    author.anything = 1  # type: ignore[attr-defined]  # this is the test

    assert author.__dict__["anything"] == 1
    assert state_or_none(author) is None


def test_deleting_a_value_reads_as_none_and_is_a_change(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")

    del author.name

    assert author.name is None
    assert get_history(author, "name") == ((), (), ("a",))
    with pytest.raises(AttributeError, match=r"Author\.name"):
        del Author().name


def test_deleting_a_relation_empties_it() -> None:
    author = Author(books=[Book()], profile=Profile())
    book, profile = author.books[0], author.profile

    del author.books
    del author.profile

    assert (author.books, author.profile, book.author, profile.author) == ([], None, None, None)


def test_a_collection_whose_owner_is_gone_cannot_be_changed(workspace: Workspace) -> None:
    author = load(workspace, Author, 1)
    set_committed_value(author, "books", [])
    books = author.books
    del author

    with pytest.raises(InvalidRequestError, match="is gone; keep a reference"):
        books.append(Book())


class TestBackReferences:
    def test_appending_sets_the_other_side(self) -> None:
        author, book = Author(), Book()

        author.books.append(book)

        assert book.author is author

    def test_setting_the_other_side_appends(self) -> None:
        author = Author()

        book = Book(author=author)

        assert author.books == [book]

    def test_moving_takes_it_from_the_old_parent(self) -> None:
        first, second, book = Author(), Author(), Book()
        first.books.append(book)

        second.books.append(book)
        assert (first.books, second.books, book.author) == ([], [book], second)

        book.author = first
        assert (first.books, second.books, book.author) == ([book], [], first)

    def test_one_to_one_lets_go_of_the_old_one(self) -> None:
        first, second = Profile(name="1"), Profile(name="2")
        author, other = Author(profile=first), Author(profile=second)

        author.profile = second

        assert (author.profile, other.profile, first.author, second.author) == (second, None, None, author)

    def test_many_to_many_is_kept_on_both_sides(self) -> None:
        book, tag = Book(), Tag()

        book.tags.append(tag)
        assert tag.books == [book]

        tag.books.remove(book)
        assert book.tags == []

    def test_a_member_twice_in_a_list_stays_related_until_its_last_removal(self) -> None:
        author, book = Author(), Book()
        author.books.extend([book, book])

        author.books.remove(book)
        assert book.author is author

        author.books.remove(book)
        assert book.author is None

    def test_an_unloaded_collection_is_not_loaded_but_remembers(self, workspace: Workspace) -> None:
        author = load(workspace, Author, 1)
        old, new = load(workspace, Book, 1, author_id=1), load(workspace, Book, 2, author_id=None)
        set_committed_value(old, "author", author)

        new.author = author
        old.author = None

        assert get_history(author, "books") == ((new,), (), (old,))
        kept = load(workspace, Book, 3, author_id=1)
        merge_loaded_collection(state_of(author), "books", [old, kept])
        assert author.books == [kept, new]
        assert get_history(author, "books") == ([new], [kept], [old])

    def test_pending_changes_are_settled_by_a_flush(self, workspace: Workspace) -> None:
        author = load(workspace, Author, 1)
        book = load(workspace, Book, 2, author_id=None)
        book.author = author
        flush(workspace)

        merge_loaded_collection(state_of(author), "books", [book])

        assert author.books == [book]
        assert not workspace.dirty

    def test_an_old_parent_known_by_its_foreign_key_is_kept_in_step(self, workspace: Workspace) -> None:
        first, second = load(workspace, Author, 1), load(workspace, Author, 2)
        book = load(workspace, Book, 1, author_id=1)
        set_committed_value(first, "books", [book])

        book.author = second

        assert first.books == []

    def test_a_tree_is_kept_in_step(self) -> None:
        root = Node(children=[Node(name="a"), Node(name="b")])
        first, second = root.children

        second.parent = first

        assert root.children == [first]
        assert first.children == [second]


class TestCascadeOnEvents:
    def test_what_is_put_into_an_object_of_a_session_follows_with_all_it_holds(self, workspace: Workspace) -> None:
        author = Author()
        workspace.add(author)

        author.books.append(Book(name="b", chapters=[Chapter(name="c")]))
        author.profile = Profile(name="p")

        assert names(workspace.new) == [None, "b", "c", "p"]

    def test_objects_do_not_follow_along_back_references(self, workspace: Workspace) -> None:
        author = Author()
        workspace.add(author)

        book = Book(author=author)

        assert author.books == [book]
        assert not workspace.contains(book)

    def test_removing_a_pending_child_with_delete_orphan_lets_it_go(self, workspace: Workspace) -> None:
        book = Book(chapters=[Chapter()])
        workspace.add(book)
        chapter = book.chapters[0]

        book.chapters.remove(chapter)

        assert not workspace.contains(chapter)

    def test_moving_a_pending_child_to_another_parent_keeps_it(self, workspace: Workspace) -> None:
        first, second = Book(chapters=[Chapter()]), Book()
        workspace.add(first)
        workspace.add(second)
        chapter = first.chapters[0]

        chapter.book = second
        assert workspace.contains(chapter)

        first.chapters.append(chapter)
        assert workspace.contains(chapter)
        assert second.chapters == []


class TestMapping:
    @pytest.fixture
    def city(self) -> Iterator[type[Any]]:
        class City(Entity):
            pass

        yield City
        uninstrument(City.__mapper__)

    def test_an_expression_is_read_and_never_set(self, city: type[Any], workspace: Workspace) -> None:
        table = Table("city", MetaData(), Column("id", Integer, primary_key=True), Column("name", String))
        mapper = map_class(city, table)
        mapper.attributes["loud"] = ColumnAttribute("loud", table.c.name, mapper, expression=func.upper(table.c.name))
        instrument(mapper)

        assert city().loud is None
        assert load(workspace, city, 1, loud="A").loud == "A"
        with pytest.raises(InvalidRequestError, match=r"City\.loud is computed"):
            city(loud="x")

    def test_what_was_put_on_a_class_can_be_taken_off(self, city: type[Any]) -> None:
        table = Table("city", MetaData(), Column("id", Integer, primary_key=True), Column("name", String))
        mapper = map_class(city, table)
        descriptor = city.name
        instrument(mapper)
        assert city.name is descriptor

        uninstrument(mapper)

        assert "name" not in city.__dict__
        assert "__setstate__" not in city.__dict__

    def test_reasons_for_missing_values_are_told_apart(self, workspace: Workspace) -> None:
        author = Author(name="a")
        workspace.add(author)
        flush(workspace)
        workspace.record_unknown(state_of(author), ["name"])

        with pytest.raises(NotLoadedError, match="the database made its value"):
            _ = author.name
        workspace.mark_deleted(state_of(author))
        flush(workspace)
        with pytest.raises(NotLoadedError, match="row was deleted"):
            _ = author.name
