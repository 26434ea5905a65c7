import copy
import pickle
from collections import UserList
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosession.errors import ArgumentError
from aiosession.state.attributes import get_history, set_committed_value
from aiosession.state.collections import (
    InstrumentedDict,
    InstrumentedList,
    InstrumentedSet,
    attribute_keyed_dict,
    column_keyed_dict,
    instrumented_class,
    keyfunc_mapping,
    new_collection,
)
from aiosession.state.contents import members
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, Mark, Note, Tag, load


class Recorder:
    """An owner that allows everything and keeps what it is told."""

    def __init__(self) -> None:
        self.came: list[object] = []
        self.went: list[object] = []

    def check(self, incoming: Any) -> None:
        pass

    def before(self, collection: Any, incoming: Any) -> Any:
        return incoming

    def after(self, collection: Any, removed: Any, added: Any) -> None:
        self.went.extend(removed)
        self.came.extend(added)


INDEX = st.integers(-4, 4)
BOOKS = st.lists(st.integers(0, 5), max_size=4)
LIST_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["append", "remove"]), st.integers(0, 5)),
        st.tuples(st.sampled_from(["extend", "iadd"]), BOOKS),
        st.tuples(st.just("insert"), INDEX, st.integers(0, 5)),
        st.tuples(st.just("pop"), INDEX),
        st.tuples(st.sampled_from(["clear", "reverse", "double"])),
        st.tuples(st.just("setitem"), INDEX, st.integers(0, 5)),
        st.tuples(st.just("delitem"), INDEX),
        st.tuples(st.just("setslice"), INDEX, INDEX, BOOKS),
        st.tuples(st.just("delslice"), INDEX, INDEX),
        st.tuples(st.just("replace"), BOOKS),
    ),
    max_size=12,
)


def step_on_list(target: Any, pool: list[Any], step: tuple[Any, ...]) -> None:
    name, *rest = step
    actions = {
        "append": lambda index: target.append(pool[index]),
        "remove": lambda index: target.remove(pool[index]),
        "extend": lambda indexes: target.extend(pool[index] for index in indexes),
        "iadd": lambda indexes: target.__iadd__([pool[index] for index in indexes]),
        "insert": lambda at, index: target.insert(at, pool[index]),
        "pop": target.pop,
        "clear": target.clear,
        "reverse": target.reverse,
        "double": lambda: target.__imul__(2),
        "setitem": lambda at, index: target.__setitem__(at, pool[index]),
        "delitem": target.__delitem__,
        "setslice": lambda start, stop, indexes: target.__setitem__(slice(start, stop), [pool[i] for i in indexes]),
        "delslice": lambda start, stop: target.__delitem__(slice(start, stop)),
        "replace": lambda indexes: target.__setitem__(slice(None), [pool[i] for i in indexes]),
    }
    actions[name](*rest)


def outcome(change: Any) -> str:
    try:
        change()
    except (IndexError, ValueError, KeyError) as error:
        return type(error).__name__
    return "done"


@given(LIST_STEPS)
def test_a_list_behaves_like_a_list_and_the_other_side_agrees(steps: list[tuple[Any, ...]]) -> None:
    pool = [Book(name=str(number)) for number in range(6)]
    author, plain = Author(), list[Any]()
    collection = author.books

    for step in steps:
        expected = outcome(lambda step=step: step_on_list(plain, pool, step))
        assert outcome(lambda step=step: step_on_list(collection, pool, step)) == expected
        assert list(collection) == plain
        assert [book for book in pool if book.author is author] == [book for book in pool if book in plain]


SET_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "remove", "discard"]), st.integers(0, 5)),
        st.tuples(
            st.sampled_from(
                [
                    "update",
                    "difference_update",
                    "intersection_update",
                    "symmetric_difference_update",
                    "__ior__",
                    "__isub__",
                    "__iand__",
                    "__ixor__",
                ]
            ),
            BOOKS,
        ),
        st.tuples(st.just("clear")),
    ),
    max_size=12,
)


@given(SET_STEPS)
def test_a_set_behaves_like_a_set_and_reports_what_changed(steps: list[tuple[Any, ...]]) -> None:
    pool = [Note(name=str(number)) for number in range(6)]
    author, plain = Author(), set[Any]()

    for name, *rest in steps:
        argument = (
            [[pool[rest[0]]] if isinstance(rest[0], int) else [{pool[index] for index in rest[0]}]][0] if rest else []
        )
        expected = outcome(lambda n=name, a=argument: getattr(plain, n)(*a))
        assert outcome(lambda n=name, a=argument: getattr(author.notes, n)(*a)) == expected
        assert author.notes == plain
        assert set(get_history(author, "notes").added) == plain


DICT_STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "set", "delitem", "pop", "setdefault", "remove"]), st.integers(0, 5)),
        st.tuples(st.sampled_from(["update", "ior"]), BOOKS),
        st.tuples(st.sampled_from(["clear", "popitem"])),
    ),
    max_size=12,
)


@given(DICT_STEPS)
def test_a_dictionary_behaves_like_one_and_reports_what_changed(steps: list[tuple[Any, ...]]) -> None:
    pool = [Mark(name=str(number)) for number in range(6)]
    book, plain = Book(), dict[Any, Any]()
    marks = book.marks
    for name, *rest in steps:
        mark = pool[rest[0]] if rest and isinstance(rest[0], int) else None
        entries = {pool[i].name: pool[i] for i in rest[0]} if rest and mark is None else {}

        def change(target: Any, name: str = name, mark: Any = mark, entries: Any = entries) -> None:
            {
                "put": lambda: target.__setitem__(mark.name, mark),
                "set": lambda: target.__setitem__(mark.name, mark) if target is plain else target.set(mark),
                "delitem": lambda: target.__delitem__(mark.name),
                "remove": lambda: target.__delitem__(mark.name) if target is plain else target.remove(mark),
                "pop": lambda: target.pop(mark.name),
                "setdefault": lambda: target.setdefault(mark.name, mark),
                "update": lambda: target.update(entries),
                "ior": lambda: target.__ior__(entries),
                "clear": target.clear,
                "popitem": target.popitem,
            }[name]()

        expected = outcome(lambda change=change: change(plain))
        assert outcome(lambda change=change: change(marks)) == expected
        assert marks == plain
        assert list(marks) == list(plain)
        assert list(get_history(book, "marks").added) == list(plain.values())


def test_a_wrong_key_is_refused_and_nothing_changes() -> None:
    book, mark = Book(), Mark(name="a")

    with pytest.raises(ArgumentError, match="'b': its own key is 'a'"):
        book.marks["b"] = mark
    with pytest.raises(ArgumentError, match="its own key is 'a'"):
        book.marks.update({"b": mark})
    with pytest.raises(ArgumentError, match="its own key is 'a'"):
        book.marks = {"b": mark}
    assert book.marks == {}


def test_a_wrong_member_of_a_dictionary_is_refused() -> None:
    book = Book()

    with pytest.raises(ArgumentError, match=r"Book\.marks takes objects of Mark"):
        book.marks["a"] = Tag(name="a")
    with pytest.raises(ArgumentError, match=r"Book\.marks is a dictionary"):
        book.marks = [Mark(name="a")]


def test_replacing_a_collection_touches_only_what_differs(workspace: Workspace) -> None:
    first, second, third = (load(workspace, Book, number) for number in range(3))
    author = load(workspace, Author, 1)
    set_committed_value(author, "books", [first, second])
    set_committed_value(first, "author", author)
    set_committed_value(second, "author", author)
    old = author.books

    author.books = [second, third]

    assert (first.author, second.author, third.author) == (None, author, author)
    assert get_history(author, "books") == ([third], [second], [first])
    assert not get_history(second, "author")
    assert old == [first, second]
    old.append(Book())
    assert len(author.books) == 2


def test_assigning_the_same_collection_changes_nothing() -> None:
    author = Author(books=[Book()])
    books = author.books

    author.books += [Book()]
    author.books = author.books

    assert author.books is books
    assert len(books) == 2


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_plain(duplicate: Any) -> None:
    author, book = Author(), Book()

    assert type(duplicate(author.books)) is list
    assert type(duplicate(author.notes)) is set
    assert type(duplicate(book.marks)) is dict
    assert type(author.notes.copy()) is set
    assert type(book.marks.copy()) is dict


def test_what_operators_of_a_set_return_is_not_watched() -> None:
    author, note = Author(), Note()

    (author.notes | {note}).clear()
    author.notes.union({note}).add(Note())

    assert author.notes == set()


def test_in_place_operators_of_a_set_want_sets() -> None:
    with pytest.raises(TypeError):
        Author().notes |= [Note()]


class SortedBooks(list[Any]):
    def insert_sorted(self, book: Any) -> None:
        self.append(book)
        self.sort(key=lambda each: each.name)


def test_a_list_class_of_the_user_keeps_its_methods() -> None:
    recorder = Recorder()
    collection = new_collection(SortedBooks, recorder)
    first, second = Book(name="b"), Book(name="a")

    collection.insert_sorted(first)
    collection.insert_sorted(second)

    assert isinstance(collection, SortedBooks)
    assert collection == [second, first]
    assert recorder.came == [first, second]
    assert instrumented_class(SortedBooks) is instrumented_class(SortedBooks)


class Bag:
    def __init__(self) -> None:
        self.content: list[Any] = []

    def add(self, member: Any) -> None:
        self.content.append(member)

    def remove(self, member: Any) -> None:
        self.content.remove(member)

    def __iter__(self) -> Any:
        return iter(self.content)


def test_a_class_with_add_remove_and_iteration_is_a_collection() -> None:
    recorder = Recorder()
    bag = new_collection(Bag, recorder)

    bag.add("a")
    bag.add("b")
    bag.remove("a")
    bag.refill_silently(["c"])

    assert (recorder.came, recorder.went) == (["a", "b"], ["a"])
    assert members(bag) == ("c",)


@pytest.mark.parametrize("kind", [dict, int, type("Half", (), {"append": lambda _self, _member: None})])
def test_what_cannot_be_a_collection_is_refused(kind: Any) -> None:
    with pytest.raises(ArgumentError, match="cannot be a collection_class"):
        new_collection(kind, None)


@pytest.mark.parametrize(
    ("factory", "kind"),
    [
        (list, InstrumentedList),
        (set, InstrumentedSet),
        (list[Any], InstrumentedList),
        (SortedBooks, SortedBooks),
        (attribute_keyed_dict("name"), InstrumentedDict),
        (UserList[Any], UserList),
    ],
)
def test_factories_of_all_kinds_make_collections(factory: Any, kind: type[Any]) -> None:
    assert isinstance(new_collection(factory, None), kind)


def test_keys_come_from_attributes_columns_or_functions() -> None:
    book = Book(name="n", id=3)

    table = Book.__table__
    assert attribute_keyed_dict("name")().key_of(book) == "n"
    assert column_keyed_dict(table.c.name)().key_of(book) == "n"
    assert column_keyed_dict([table.c.id, table.c.name])().key_of(book) == (3, "n")
    assert keyfunc_mapping(lambda each: each.id * 2)().key_of(book) == 6


def test_collections_without_owner_are_plain() -> None:
    loose_list, loose_set = InstrumentedList([1]), InstrumentedSet({1})

    loose_list.append(2)
    loose_list.insert(0, 0)
    loose_list.pop()
    loose_set.add(2)

    assert (loose_list, loose_set) == ([0, 1], {1, 2})
