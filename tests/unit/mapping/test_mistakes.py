"""Every mapping mistake is reported when mappers are configured (or sooner), with class, attribute and remedy."""

# The base class is made anew for each test, so its type is not known.
# mypy: disable-error-code="misc"

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table

from aiosession import DeclarativeBase, Mapped, MappingError, backref, mapped_column, registry, relationship
from aiosession.errors import ArgumentError


@pytest.fixture
def base() -> Iterator[Any]:
    class Base(DeclarativeBase):
        pass

    yield Base
    Base.registry.dispose()  # else its mistakes would be reported by configure_mappers() elsewhere


def no_foreign_key(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        addresses: Mapped[list["Address"]] = relationship()

    class Address(base):
        __tablename__ = "address"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int]


def misspelt_foreign_key(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        addresses: Mapped[list["Address"]] = relationship()

    class Address(base):
        __tablename__ = "address"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))


def several_foreign_keys(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Message(base):
        __tablename__ = "message"
        id: Mapped[int] = mapped_column(primary_key=True)
        sender_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        receiver_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        sender: Mapped["User"] = relationship()


def unknown_target(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Usr"]] = relationship()  # type: ignore[name-defined]  # noqa: F821


def unmapped_target(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list[int]] = relationship()


def missing_back_populates(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship(back_populates="autor")

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        author: Mapped["User"] = relationship()


def back_populates_elsewhere(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship(back_populates="author")
        drafts: Mapped[list["Post"]] = relationship(back_populates="author", overlaps="posts")

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        author: Mapped["User"] = relationship(back_populates="posts")


def tree_without_remote_side(base: Any) -> None:
    class Node(base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
        parent: Mapped["Node | None"] = relationship(back_populates="children")
        children: Mapped[list["Node"]] = relationship(back_populates="parent")


def collection_on_many_to_one(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        users: Mapped[list["User"]] = relationship()


def orphans_of_many_parents(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        user: Mapped["User"] = relationship(cascade="all, delete-orphan")


def orphans_without_delete(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship(cascade="save-update, delete-orphan")

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))


def writing_cascade_of_a_view(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship(viewonly=True, cascade="all")

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))


def ambiguous_secondary(base: Any) -> None:
    Table("edge", base.metadata, Column("a", ForeignKey("node.id")), Column("b", ForeignKey("node.id")))

    class Node(base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        neighbours: Mapped[list["Node"]] = relationship(secondary="edge")


def unknown_secondary(base: Any) -> None:
    Table("edge", base.metadata, Column("a", ForeignKey("node.id")), Column("b", ForeignKey("node.id")))

    class Node(base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        neighbours: Mapped[list["Node"]] = relationship(secondary="edges")


def backref_onto_an_attribute(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship(backref=backref("title"))

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))


def primaryjoin_without_foreign_key(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship(primaryjoin="User.id == Post.user_id")

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int]


def broken_expression(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship(order_by="Post.titel")

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str]
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))


def inequality_as_join(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship(primaryjoin="User.id < foreign(Post.user_id)")

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int]


def dictionary_of_single_object(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        user: Mapped["User"] = relationship(collection_class=set)


AT_CONFIGURE: list[tuple[Callable[[Any], None], list[str]]] = [
    (no_foreign_key, ["User.addresses", "no foreign key between tables 'user' and 'address'", "ForeignKey"]),
    (misspelt_foreign_key, ["address.user_id refers to 'users.id', which does not exist"]),
    (several_foreign_keys, ["Message.sender", "message.sender_id", "message.receiver_id", "foreign_keys="]),
    (unknown_target, ["User.posts", "'Usr' is no mapped class", "did you mean 'User'"]),
    (unmapped_target, ["User.posts", "int is not a mapped class"]),
    (missing_back_populates, ["User.posts", "no relationship 'autor'", "'author'"]),
    (back_populates_elsewhere, ["User.drafts", "which in turn names 'posts'"]),
    (tree_without_remote_side, ["Node.parent", "both one-to-many", "remote_side="]),
    (collection_on_many_to_one, ["Post.users", "many-to-one", "Mapped[User]"]),
    (orphans_of_many_parents, ["Post.user", "single_parent=True"]),
    (orphans_without_delete, ["User.posts", 'cascade="all, delete-orphan"']),
    (writing_cascade_of_a_view, ["User.posts", "viewonly"]),
    (ambiguous_secondary, ["Node.neighbours", "edge.a", "edge.b", "primaryjoin="]),
    (unknown_secondary, ["Node.neighbours", "'edges', which is no table", "'edge'"]),
    (backref_onto_an_attribute, ["User.posts", "'title'", "back_populates="]),
    (primaryjoin_without_foreign_key, ["User.posts", "foreign()"]),
    (broken_expression, ["User.posts", "'Post.titel'", "cannot be evaluated"]),
    (inequality_as_join, ["User.posts", "viewonly=True"]),
    (dictionary_of_single_object, ["Post.user", "collection_class"]),
]


@pytest.mark.parametrize(("mistake", "expected"), AT_CONFIGURE, ids=[case[0].__name__ for case in AT_CONFIGURE])
def test_mistake_is_reported_when_mappers_are_configured(
    base: Any, mistake: Callable[[Any], None], expected: list[str]
) -> None:
    mistake(base)

    with pytest.raises(MappingError) as raised:
        base.registry.configure()

    for text in expected:
        assert text in str(raised.value)


def no_primary_key(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        name: Mapped[str]


def no_table_name(base: Any) -> None:
    class User(base):
        id: Mapped[int] = mapped_column(primary_key=True)


def unknown_type(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        where: Mapped[complex]


def class_without_relationship(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]]  # type: ignore[name-defined]  # noqa: F821


def reserved_name(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        metadata: Mapped[str]


def missing_mapped(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: str = mapped_column()  # type: ignore[assignment]


def plain_value(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        age: Mapped[int] = 5  # type: ignore[assignment]


def dictionary_without_key(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        notes: Mapped[dict[str, "Note"]] = relationship()  # type: ignore[name-defined]  # noqa: F821


def subclass_of_mapped(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Admin(User):
        __tablename__ = "admin"


def same_table_twice(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Person(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)


def unknown_mapper_argument(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        __mapper_args__ = {"version_id_column": "version"}
        id: Mapped[int] = mapped_column(primary_key=True)


def polymorphic(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        __mapper_args__ = {"polymorphic_identity": "user"}
        id: Mapped[int] = mapped_column(primary_key=True)


def table_arguments_without_comma(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        __table_args__ = Column("x", Integer)
        id: Mapped[int] = mapped_column(primary_key=True)


def column_beside_table(base: Any) -> None:
    class User(base):
        __table__ = Table("user", base.metadata, Column("id", Integer, primary_key=True))
        name: Mapped[str]


AT_ONCE: list[tuple[Callable[[Any], None], list[str]]] = [
    (no_primary_key, ["class User", "no primary key", "primary_key=True"]),
    (no_table_name, ["class User", "__tablename__", "__abstract__"]),
    (unknown_type, ["User.where", "complex", "type_annotation_map"]),
    (class_without_relationship, ["User.posts", "Post", "relationship()"]),
    (reserved_name, ["User.metadata", "reserved", "mapped_column('metadata')"]),
    (missing_mapped, ["User.name", "Mapped[...]"]),
    (plain_value, ["User.age", "mapped_column(default=...)"]),
    (dictionary_without_key, ["User.notes", "attribute_keyed_dict"]),
    (subclass_of_mapped, ["class Admin", "User", "inheritance", "mixin", "__abstract__"]),
    (same_table_twice, ["class Person", "'user'", "__tablename__"]),
    (unknown_mapper_argument, ["class User", "'version_id_column'", "version_id_col"]),
    (polymorphic, ["class User", "polymorphic_identity", "inheritance"]),
    (table_arguments_without_comma, ["class User", "__table_args__", "comma"]),
    (column_beside_table, ["User.name", "no column 'name'"]),
]


@pytest.mark.parametrize(("mistake", "expected"), AT_ONCE, ids=[case[0].__name__ for case in AT_ONCE])
def test_mistake_is_reported_when_the_class_is_mapped(
    base: Any, mistake: Callable[[Any], None], expected: list[str]
) -> None:
    with pytest.raises(MappingError) as raised:
        mistake(base)

    for text in expected:
        assert text in str(raised.value)


def test_all_mistakes_are_reported_at_once(base: Any) -> None:
    no_foreign_key(base)

    class Other(base):
        __tablename__ = "other"
        id: Mapped[int] = mapped_column(primary_key=True)
        things: Mapped[list["Thing"]] = relationship()  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(MappingError) as raised:
        base.registry.configure()

    assert len(raised.value.problems) == 2


def test_mistakes_are_reported_again_until_they_are_mended(base: Any) -> None:
    unknown_target(base)
    with pytest.raises(MappingError):
        base.registry.configure()

    with pytest.raises(MappingError, match="Usr"):
        base.registry.configure()


def test_a_failed_class_leaves_no_table_behind(base: Any) -> None:
    with pytest.raises(MappingError):
        no_primary_key(base)

    assert "user" not in base.metadata.tables


@pytest.mark.parametrize(
    "call",
    [
        lambda: relationship(lazy="eager"),  # type: ignore[arg-type]
        lambda: relationship(cascade="al"),
        lambda: backref("x", ordr_by="y"),
    ],
)
def test_unknown_words_are_refused_by_the_call_itself(call: Callable[[], object]) -> None:
    with pytest.raises(ArgumentError):
        call()


def test_class_with_slots_is_refused() -> None:
    class Slotted:
        __slots__ = ("id",)

    table = Table("slotted", MetaData(), Column("id", Integer, primary_key=True))
    with pytest.raises(MappingError, match="__slots__"):
        registry().map_imperatively(Slotted, table)
