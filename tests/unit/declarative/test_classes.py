"""How classes get mapped: bases, decorators, imperatively, as dataclasses; and what their constructors do."""

import copy
import dataclasses
import pickle
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Integer, String, Table

from aiosession import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    MappingError,
    UnmappedError,
    deferred,
    mapped_column,
    registry,
    relationship,
)
from aiosession.errors import ArgumentError, UnknownAttributeError
from aiosession.mapping.inspection import mapper_of
from tests.typing import declarative as typed
from tests.unit.declarative import elsewhere, future_annotations
from tests.unit.mapping_model import Author, Post

# Some base classes are made anew for each test, so their type is not known.
# mypy: disable-error-code="misc"


def test_constructor_sets_attributes() -> None:
    author = Author(name="Ann", posts=[Post(title="x")])

    assert author.name == "Ann"
    assert author.posts[0].author is author


def test_constructor_refuses_unknown_names() -> None:
    with pytest.raises(UnknownAttributeError, match="Author has no attribute 'nmae'; did you mean 'name'") as raised:
        Author(nmae="Ann")

    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, ArgumentError)


def test_constructor_of_the_class_itself_is_kept() -> None:
    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

        def __init__(self, number: int) -> None:
            self.id = number

    assert User(3).id == 3


def test_objects_can_be_copied_and_pickled() -> None:
    author = Author(name="Ann")

    assert copy.copy(author).name == "Ann"
    assert pickle.loads(pickle.dumps(author)).name == "Ann"


def test_modules_with_postponed_annotations() -> None:
    mapper = mapper_of(future_annotations.Post)

    assert mapper_of(future_annotations.User).column_attributes["name"].column.nullable
    assert mapper.relationships["user"].target is mapper_of(future_annotations.User)
    assert mapper.relationships["comments"].collection_class is set
    assert mapper.relationships["last_comment"].target is mapper_of(elsewhere.Comment)
    assert not mapper.relationships["last_comment"].uselist


def test_dataclasses_are_real_ones() -> None:
    point = typed.Point(1, 2, label="home")

    assert dataclasses.is_dataclass(typed.Point)
    assert [field.name for field in dataclasses.fields(point)] == ["id", "x", "y", "label"]
    assert (point.x, point.y, point.label) == (1, 2, "home")
    assert mapper_of(typed.Point).table.c.y.default is not None


def test_dataclass_options_and_mixins() -> None:
    class Base(MappedAsDataclass, DeclarativeBase, repr=False):
        pass

    class Named(MappedAsDataclass):
        name: Mapped[str] = mapped_column(default="?")

    class User(Named, Base, kw_only=True):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        age: Mapped[int]
        tags: list[str] = dataclasses.field(default_factory=list)

    user = User(age=3)

    assert (user.name, user.age, user.tags) == ("?", 3, [])
    assert repr(user).startswith("<")
    with pytest.raises(TypeError):
        User(3)  # type: ignore[call-arg,arg-type]


def test_dataclass_that_cannot_be_one_is_explained() -> None:
    class Base(MappedAsDataclass, DeclarativeBase):
        pass

    with pytest.raises(MappingError, match="class User cannot be a dataclass: non-default argument"):

        class User(Base):
            __tablename__ = "user"
            id: Mapped[int] = mapped_column(primary_key=True, default=1)
            name: Mapped[str]


def test_decorator_maps_plain_classes() -> None:
    mappings = registry()

    @mappings.mapped
    class User:
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert User(id=3).id == 3  # type: ignore[call-arg]
    assert mapper_of(User).registry is mappings


def test_imperative_mapping_keeps_the_class_as_it_is() -> None:
    mappings = registry()
    users = Table("user", mappings.metadata, Column("user_id", Integer, primary_key=True), Column("bio", String))
    posts = Table(
        "post", mappings.metadata, Column("id", Integer, primary_key=True), Column("u", ForeignKey("user.user_id"))
    )

    class User:
        def __init__(self, number: int) -> None:
            self.id = number

    class Post:
        user: User

    mappings.map_imperatively(User, users, properties={"id": users.c.user_id, "bio": deferred(users.c.bio)})
    mappings.map_imperatively(Post, posts, properties={"user": relationship(User, backref="posts")})

    post = Post()
    post.user = User(3)
    assert post.user.posts == [post]  # type: ignore[attr-defined]
    assert list(mapper_of(User).attributes) == ["id", "bio", "posts"]
    assert mapper_of(User).column_attributes["bio"].deferred


def test_generated_base_maps_its_subclasses() -> None:
    Base: Any = registry().generate_base()

    class User(Base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(primary_key=True)

    assert User(id=3).id == 3


def test_disposed_classes_are_not_mapped_any_more() -> None:
    mappings = registry()
    table = Table("user", mappings.metadata, Column("id", Integer, primary_key=True))

    class User:
        pass

    mappings.map_imperatively(User, table)
    mappings.dispose()

    with pytest.raises(UnmappedError):
        mapper_of(User)
    mappings.map_imperatively(User, table)
    assert mapper_of(User).table is table


@pytest.mark.parametrize("wrong", [None, "user"])
def test_imperative_mapping_needs_a_table(wrong: Any) -> None:
    class User:
        pass

    with pytest.raises(MappingError, match="takes a Table"):
        registry().map_imperatively(User, wrong)


def test_a_class_is_mapped_once() -> None:
    with pytest.raises(MappingError, match="class Author is mapped already"):
        registry().map_imperatively(Author, Author.__table__)


def test_deriving_from_the_library_base_directly_is_explained() -> None:
    with pytest.raises(MappingError, match="derive a base class first"):

        class User(DeclarativeBase):
            __tablename__ = "user"
            id: Mapped[int] = mapped_column(primary_key=True)
