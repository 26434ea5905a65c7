"""What follows from the arguments of relationship(): direction, pairs, collections, back-references."""

# The base class is made anew for each test, so its type is not known.
# mypy: disable-error-code="misc"

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Table

from aiosession import (
    DeclarativeBase,
    Mapped,
    attribute_keyed_dict,
    backref,
    mapped_column,
    registry,
    relationship,
)
from aiosession.mapping.cascade import Cascade
from aiosession.mapping.inspection import mapper_of
from aiosession.mapping.mapper import Relationship
from aiosession.mapping.relationships import Direction
from aiosession.mapping.sides import columns_in, foreign, is_remote, remote
from tests.unit.mapping_model import Author, Box, Node, Post, Shelf, Tag


@pytest.fixture
def base() -> Iterator[Any]:
    class Base(DeclarativeBase):
        pass

    yield Base
    Base.registry.dispose()


def relation(class_: Any, key: str) -> Relationship:
    return mapper_of(class_).relationships[key]


def names(pairs: Any) -> list[tuple[str, str]]:
    return [(str(source), str(destination)) for source, destination in pairs]


def test_one_to_many_carries_the_primary_key_to_the_children() -> None:
    posts = relation(Author, "posts")

    assert posts.direction is Direction.ONE_TO_MANY
    assert posts.uselist
    assert names(posts.synchronize_pairs) == [("author.id", "post.author_id")]
    assert {str(column) for column in posts.remote_side} == {"post.author_id"}
    assert [str(column) for column in posts.order_by] == ["post.id"]
    assert posts.cascade == Cascade.ALL | Cascade.DELETE_ORPHAN


def test_many_to_one_can_be_found_by_primary_key() -> None:
    author = relation(Post, "author")

    assert author.direction is Direction.MANY_TO_ONE
    assert not author.uselist
    assert author.uses_get
    assert [str(column) for column in author.get_columns] == ["post.author_id"]
    assert author.back is relation(Author, "posts")
    assert author.cascade == Cascade.SAVE_UPDATE | Cascade.MERGE


def test_one_to_one_is_a_one_to_many_that_holds_one() -> None:
    profile = relation(Author, "profile")

    assert profile.direction is Direction.ONE_TO_MANY
    assert not profile.uselist


def test_many_to_many_writes_the_secondary_table_from_both_sides() -> None:
    tags = relation(Post, "tags")

    assert tags.direction is Direction.MANY_TO_MANY
    assert tags.collection_class is set
    assert tags.secondary is Post.metadata.tables["post_tag"]
    assert names(tags.synchronize_pairs) == [("post.id", "post_tag.post_id")]
    assert names(tags.secondary_synchronize_pairs) == [("tag.id", "post_tag.tag_id")]


def test_backref_is_the_relation_seen_from_the_other_side() -> None:
    posts = relation(Tag, "posts")

    assert posts.back is relation(Post, "tags")
    assert relation(Post, "tags").back is posts
    assert names(posts.synchronize_pairs) == [("tag.id", "post_tag.tag_id")]
    assert [str(column) for column in posts.order_by] == ["post.id"]


def test_remote_side_decides_the_direction_in_a_tree() -> None:
    assert relation(Node, "parent").direction is Direction.MANY_TO_ONE
    assert relation(Node, "children").direction is Direction.ONE_TO_MANY
    assert names(relation(Node, "parent").synchronize_pairs) == [("node.id", "node.parent_id")]


def test_composite_keys_are_carried_as_a_whole() -> None:
    assert names(relation(Shelf, "boxes").synchronize_pairs) == [
        ("shelf.room", "box.room"),
        ("shelf.number", "box.number"),
    ]
    assert [column.name for column in relation(Box, "shelf").get_columns] == ["room", "number"]


def test_mappers_know_the_relations_that_lead_to_them() -> None:
    Author.registry.configure()

    assert {str(item) for item in mapper_of(Author).incoming} >= {
        "<Relationship Post.author>",
        "<Relationship Profile.author>",
        "<Relationship Membership.author>",
    }


def test_reading_a_fact_configures_mappers(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        posts: Mapped[list["Post"]] = relationship()

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))

    assert not base.registry.is_configured
    assert User.__mapper__.relationships["posts"].target is Post.__mapper__
    assert base.registry.is_configured


def test_classes_may_be_mapped_after_mappers_were_configured(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    base.registry.configure()

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        user: Mapped["User"] = relationship(backref="posts")

    post = Post()
    User(posts=[post])
    assert isinstance(post.user, User)
    assert mapper_of(User).incoming == (relation(Post, "user"),)


@pytest.mark.parametrize("said", ["sender_id", "string", "callable", "list"])
def test_foreign_keys_chooses_between_paths(base: Any, said: str) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Message(base):
        __tablename__ = "message"
        id: Mapped[int] = mapped_column(primary_key=True)
        sender_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        receiver_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        sender: Mapped["User"] = relationship(
            foreign_keys={
                "sender_id": sender_id,
                "string": "Message.sender_id",
                "callable": lambda: Message.sender_id,
                "list": "[Message.sender_id]",
            }[said]
        )

    assert names(relation(Message, "sender").synchronize_pairs) == [("user.id", "message.sender_id")]


def test_primaryjoin_may_limit_the_related_rows(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        home: Mapped["Address"] = relationship(
            primaryjoin="and_(User.id == Address.user_id, Address.kind == 'home')", viewonly=True
        )

    class Address(base):
        __tablename__ = "address"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))

    home = relation(User, "home")
    assert home.direction is Direction.ONE_TO_MANY
    assert names(home.synchronize_pairs) == [("user.id", "address.user_id")]
    assert home.cascade is Cascade.MERGE


def test_limited_many_to_one_is_not_found_by_primary_key(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        active: Mapped[bool]

    class Post(base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        user: Mapped["User | None"] = relationship(
            primaryjoin=lambda: (Post.user_id == User.id) & User.active.is_(True)
        )

    assert not relation(Post, "user").uses_get


def test_foreign_and_remote_stand_in_for_constraints(base: Any) -> None:
    class Place(base):
        __tablename__ = "place"
        path: Mapped[str] = mapped_column(primary_key=True)
        parent_path: Mapped[str | None]
        parent: Mapped["Place | None"] = relationship(
            primaryjoin=lambda: remote(Place.path) == foreign(Place.parent_path), back_populates="children"
        )
        children: Mapped[list["Place"]] = relationship(
            primaryjoin="Place.path == remote(foreign(Place.parent_path))", back_populates="parent"
        )

    assert relation(Place, "parent").direction is Direction.MANY_TO_ONE
    assert relation(Place, "children").direction is Direction.ONE_TO_MANY


def test_all_columns_of_another_target_are_remote_whichever_are_marked(base: Any) -> None:
    class Shop(base):
        __tablename__ = "shop"
        id: Mapped[int] = mapped_column(primary_key=True)
        main_till: Mapped["Till | None"] = relationship(
            primaryjoin="and_(Shop.id == foreign(remote(Till.shop_id)), Till.number == 1)", viewonly=True
        )

    class Till(base):
        __tablename__ = "till"
        id: Mapped[int] = mapped_column(primary_key=True)
        number: Mapped[int]
        shop_id: Mapped[int]

    condition = relation(Shop, "main_till").primaryjoin

    assert {column.name for column in columns_in(condition) if is_remote(column)} == {"shop_id", "number"}


def test_backref_in_a_tree_turns_the_direction_round(base: Any) -> None:
    class Node(base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("node.id"))
        children: Mapped[list["Node"]] = relationship(backref="parent")

    assert relation(Node, "parent").direction is Direction.MANY_TO_ONE
    assert relation(Node, "parent").uses_get


def test_backref_takes_options_of_its_own(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Card(base):
        __tablename__ = "card"
        id: Mapped[int] = mapped_column(primary_key=True)
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
        user: Mapped["User"] = relationship(backref=backref("card", uselist=False, cascade="all"))

    assert not relation(User, "card").uselist
    assert relation(User, "card").cascade == Cascade.ALL


def test_composite_tree_with_a_shared_column(base: Any) -> None:
    class Node(base):
        __tablename__ = "node"
        __table_args__ = (ForeignKeyConstraint(["tenant", "parent_id"], ["node.tenant", "node.id"]),)
        tenant: Mapped[int] = mapped_column(primary_key=True)
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None]
        parent: Mapped["Node | None"] = relationship(remote_side="[Node.tenant, Node.id]", back_populates="children")
        children: Mapped[list["Node"]] = relationship(back_populates="parent")

    pairs = [("node.tenant", "node.tenant"), ("node.id", "node.parent_id")]
    assert relation(Node, "parent").direction is Direction.MANY_TO_ONE
    assert sorted(names(relation(Node, "parent").synchronize_pairs)) == sorted(pairs)
    assert sorted(names(relation(Node, "children").synchronize_pairs)) == sorted(pairs)


def test_many_to_many_within_one_table(base: Any) -> None:
    edge = Table(
        "edge",
        base.metadata,
        Column("source", ForeignKey("node.id"), primary_key=True),
        Column("target", ForeignKey("node.id"), primary_key=True),
    )

    class Node(base):
        __tablename__ = "node"
        id: Mapped[int] = mapped_column(primary_key=True)
        after: Mapped[list["Node"]] = relationship(
            secondary=edge,
            primaryjoin=lambda: Node.id == edge.c.source,
            secondaryjoin=lambda: Node.id == edge.c.target,
            backref="before",
        )

    assert names(relation(Node, "after").synchronize_pairs) == [("node.id", "edge.source")]
    assert names(relation(Node, "before").synchronize_pairs) == [("node.id", "edge.target")]


def test_dictionaries_need_their_factory(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)
        notes: Mapped[dict[str, "Note"]] = relationship(collection_class=attribute_keyed_dict("name"))

    class Note(base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]
        user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))

    user = User()
    user.notes["x"] = Note(name="x")
    assert list(user.notes) == ["x"]
    assert relation(User, "notes").target is Note.__mapper__


def test_the_same_class_name_in_two_modules_needs_a_path() -> None:
    mappings = registry()

    def make(module: str, table: str) -> Any:
        body = {
            "__module__": module,
            "__qualname__": "Item",
            "__tablename__": table,
            "id": mapped_column(primary_key=True),
            "__annotations__": {"id": Mapped[int]},
        }
        return mappings.mapped(type("Item", (), body))

    first, second = make("shop.models", "first"), make("stock.models", "second")

    @mappings.mapped
    class Order:
        __tablename__ = "order"
        id: Mapped[int] = mapped_column(primary_key=True)
        first_id: Mapped[int] = mapped_column(ForeignKey("first.id"))
        second_id: Mapped[int] = mapped_column(ForeignKey("second.id"))
        first: Mapped[Any] = relationship("shop.models.Item")
        second: Mapped[Any] = relationship("stock.models.Item", primaryjoin="Order.second_id == stock.models.Item.id")

    assert relation(Order, "first").target is first.__mapper__
    assert relation(Order, "second").target is second.__mapper__
