"""Whatever is done to either side of relations, both sides agree."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aiosession.state.attributes import set_committed_value
from aiosession.state.state import state_of
from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Author, Book, Node, Profile, Tag, load

PICK = st.integers(0, 3)
PICKS = st.lists(PICK, max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["books.append", "book.author", "tags.append", "tag.books", "profile"]), PICK, PICK),
        st.tuples(st.sampled_from(["books.remove", "tags.remove", "tag.books.remove"]), PICK, PICK),
        st.tuples(st.sampled_from(["books=", "tags=", "books extend"]), PICK, PICKS),
        st.tuples(st.sampled_from(["author=None", "profile=None", "books.clear", "del books"]), PICK, PICK),
        st.tuples(st.sampled_from(["node.parent", "node.append"]), PICK, PICK),
    ),
    max_size=15,
)


class World:
    """Four objects of each class."""

    def __init__(self, make: Any) -> None:
        self.authors, self.books, self.tags, self.profiles, self.nodes = (
            [make(class_, number) for number in range(4)] for class_ in (Author, Book, Tag, Profile, Node)
        )

    def step(self, name: str, first: int, second: Any) -> None:
        author, book, tag = self.authors[first], self.books[first], self.tags[first]
        many = [self.books[index] for index in second] if isinstance(second, list) else []
        other = 0 if isinstance(second, list) else second
        actions = {
            "books.append": lambda: author.books.append(self.books[other]),
            "book.author": lambda: setattr(book, "author", self.authors[other]),
            "tags.append": lambda: book.tags.append(self.tags[other]),
            "tag.books": lambda: tag.books.append(self.books[other]),
            "profile": lambda: setattr(author, "profile", self.profiles[other]),
            "books.remove": lambda: self.books[other] in author.books and author.books.remove(self.books[other]),
            "tags.remove": lambda: self.tags[other] in book.tags and book.tags.remove(self.tags[other]),
            "tag.books.remove": lambda: self.books[other] in tag.books and tag.books.remove(self.books[other]),
            "books=": lambda: setattr(author, "books", many),
            "tags=": lambda: setattr(book, "tags", [self.tags[index] for index in second]),
            "books extend": lambda: author.books.extend(many),
            "author=None": lambda: setattr(book, "author", None),
            "profile=None": lambda: setattr(author, "profile", None),
            "books.clear": author.books.clear,
            "del books": lambda: delattr(author, "books"),
            "node.parent": lambda: setattr(self.nodes[first], "parent", self.nodes[other]),
            "node.append": lambda: self.nodes[first].children.append(self.nodes[other]),
        }
        actions[name]()

    def check(self) -> None:
        for book in self.books:
            assert [author for author in self.authors if book in author.books] == ([book.author] if book.author else [])
            for tag in self.tags:
                assert (tag in book.tags) == (book in tag.books)
        for author in self.authors:
            assert author.profile is None or author.profile.author is author
        for profile in self.profiles:
            assert profile.author is None or profile.author.profile is profile
        for node in self.nodes:
            assert [each for each in self.nodes if node in each.children] == ([node.parent] if node.parent else [])


@given(STEPS)
def test_both_sides_of_new_objects_agree(steps: list[tuple[str, int, Any]]) -> None:
    world = World(lambda class_, _number: class_())

    for step in steps:
        world.step(*step)
        world.check()


@given(STEPS)
def test_both_sides_of_loaded_objects_agree_and_a_rollback_undoes_all(steps: list[tuple[str, int, Any]]) -> None:
    workspace = Workspace()

    def make(class_: type[Any], number: int) -> Any:
        obj = load(workspace, class_, number)
        for key, relationship in state_of(obj).mapper.relationships.items():
            set_committed_value(obj, key, [] if relationship.uselist else None)
        return obj

    world = World(make)
    for step in steps:
        world.step(*step)
        world.check()

    workspace.rollback_all()

    world.check()
    assert not any(author.books or author.profile for author in world.authors)
    assert not any(book.tags or book.author for book in world.books)
    assert not any(node.children or node.parent for node in world.nodes)
    assert all(state_of(obj).committed is None for obj in (*world.authors, *world.books, *world.tags))
