from aiosession.mapping.cascade import Cascade
from aiosession.state.attributes import set_committed_value
from aiosession.state.cascade import reachable
from aiosession.state.state import state_of
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, Chapter, Node, Tag, load


def reached(obj: object, cascade: Cascade) -> list[object]:
    return [each.obj for each in reachable(state_of(obj), cascade)]


def test_everything_along_the_cascade_is_reached_once_nearest_first() -> None:
    tag = Tag()
    first, second = Book(tags=[tag], chapters=[Chapter(name="1")]), Book(tags=[tag])
    author = Author(books=[first, second])

    assert reached(author, Cascade.SAVE_UPDATE) == [first, second, tag, *first.chapters]


def test_only_relations_with_the_cascade_are_followed() -> None:
    book = Book(author=Author(), chapters=[Chapter()])

    assert reached(book, Cascade.DELETE) == book.chapters


def test_cycles_and_deep_chains_are_no_problem() -> None:
    root = node = Node()
    for _ in range(5_000):
        node.children.append(Node())
        node = node.children[0]
    node.children.append(root)

    assert len(reached(root, Cascade.SAVE_UPDATE)) == 5_000


def test_what_is_not_loaded_is_not_followed_but_what_was_added_to_it_is(workspace: Workspace) -> None:
    author, book = load(workspace, Author, 1), Book()
    assert reached(author, Cascade.SAVE_UPDATE) == []

    book.author = author

    assert reached(author, Cascade.SAVE_UPDATE) == [book]


def test_a_halt_stops_the_walk() -> None:
    author = Author(books=[Book(chapters=[Chapter()])])

    assert (
        list(reachable(state_of(author), Cascade.SAVE_UPDATE, halt=lambda state: state.mapper is Book.__mapper__)) == []
    )


def test_each_step_says_along_which_relation(workspace: Workspace) -> None:
    author, book = load(workspace, Author, 1), load(workspace, Book, 1)
    set_committed_value(author, "books", [book])

    (step,) = reachable(state_of(author), Cascade.MERGE)

    assert (step.state, step.obj, step.relationship.key) == (state_of(book), book, "books")
