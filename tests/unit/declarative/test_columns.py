"""What annotations and mapped_column() come to as columns."""

import datetime
import decimal
import enum
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, NewType, Optional

import pytest
import sqlalchemy
from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, func, select
from typing_extensions import TypeAliasType

from aiosession import (
    DeclarativeBase,
    Mapped,
    MappingError,
    column_property,
    declared_attr,
    deferred,
    mapped_column,
    relationship,
)
from aiosession.mapping.inspection import mapper_of

# The base class is made anew for each test, so its type is not known.
# mypy: disable-error-code="misc"


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Name(str):
    __slots__ = ()


UserId = NewType("UserId", int)
Alias = TypeAliasType("Alias", str)
PrimaryKey = Annotated[int, mapped_column(primary_key=True)]
Short = Annotated[str, 10]
Reference = Annotated[int, mapped_column(ForeignKey("user.id"), index=True)]


@pytest.fixture
def base() -> Iterator[Any]:
    class Base(DeclarativeBase):
        type_annotation_map: ClassVar[Any] = {Short: String(10), complex: sqlalchemy.String(40)}

    yield Base
    Base.registry.dispose()


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (bool, "Boolean()"),
        (int, "Integer()"),
        (float, "Float()"),
        (str, "String()"),
        (bytes, "LargeBinary()"),
        (decimal.Decimal, "Numeric()"),
        (datetime.datetime, "DateTime()"),
        (datetime.date, "Date()"),
        (datetime.time, "Time()"),
        (datetime.timedelta, "Interval()"),
        (uuid.UUID, "Uuid()"),
        (dict[str, Any], "JSON()"),
        (Colour, "Enum('RED', 'BLUE', name='colour')"),
        (Literal["a", "bb"], "Enum('a', 'bb', native_enum=False)"),
        (UserId, "Integer()"),
        (Alias, "String()"),
        (Name, "String()"),
        (Short, "String(length=10)"),
        (complex, "String(length=40)"),
        ("int", "Integer()"),
        ("datetime.date", "Date()"),
    ],
)
@pytest.mark.parametrize("optional", [False, True])
def test_annotation_gives_type_and_nullability(base: Any, annotation: Any, expected: str, optional: bool) -> None:
    said: Any = Optional[annotation] if optional else annotation  # noqa: UP045 - a name in quotes has no |
    mapped: Any = Mapped
    body = {
        "__tablename__": "t",
        "__module__": __name__,
        "__annotations__": {"id": Mapped[PrimaryKey], "x": mapped[said]},
    }

    column = type("T", (base,), body).__table__.c.x  # type: ignore[attr-defined]

    assert repr(column.type) == expected
    assert column.nullable is optional


def test_arguments_win_over_the_annotation(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[PrimaryKey]
        big: Mapped[int | None] = mapped_column(BigInteger, nullable=False)
        other: Mapped[str] = mapped_column("other_name", String(5), default="x")
        reference: Mapped[Reference]
        optional_reference: Mapped[Reference | None]

    columns = User.__table__.c
    assert repr(columns.big.type) == "BigInteger()"
    assert not columns.big.nullable
    assert columns.other_name.default.arg == "x"
    assert [key.target_fullname for key in columns.reference.foreign_keys] == ["user.id"]
    assert columns.optional_reference.nullable
    assert mapper_of(User).attribute_of(columns.other_name).key == "other"
    assert {index.name for index in User.__table__.indexes} == {"ix_user_reference", "ix_user_optional_reference"}


def test_foreign_keys_take_the_type_of_what_they_refer_to(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("user.id"))

    assert isinstance(User.__table__.c.parent_id.type, BigInteger)


def test_columns_can_be_used_inside_the_class_body(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[PrimaryKey]
        first: Mapped[str] = mapped_column(String)
        last: Mapped[str] = mapped_column(String)
        full: Mapped[str] = column_property(first + " " + last)
        __table_args__ = (Index("ix_name", last, first), {"comment": "people"})

    assert User.__table__.comment == "people"
    assert [index.name for index in User.__table__.indexes] == ["ix_name"]
    assert str(User.full) == "User.full"
    assert '"user".first || :param_1 || "user".last' in str(select(User.full))
    assert list(mapper_of(User).expression_attributes) == ["full"]
    assert mapper_of(User).attributes["full"] not in mapper_of(User).column_attributes.values()


def test_deferred_columns_say_so(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[PrimaryKey]
        bio: Mapped[str] = mapped_column(deferred=True)
        photo: Mapped[bytes] = mapped_column(deferred_group="heavy", deferred_raiseload=True)
        upper = deferred(column_property(func.upper("x")))
        plain = deferred(Column(String), group="heavy")

    attributes = mapper_of(User).attributes
    facts = {key: (item.deferred, item.deferred_group) for key, item in attributes.items() if hasattr(item, "deferred")}
    assert facts == {
        "id": (False, None),
        "bio": (True, None),
        "photo": (True, "heavy"),
        "upper": (True, None),
        "plain": (True, "heavy"),
    }


def test_explicit_table_with_other_names(base: Any) -> None:
    table = Table("user", base.metadata, Column("user_id", Integer, primary_key=True), Column("name", String))

    class User(base):
        __table__ = table
        id: Mapped[int] = table.c.user_id  # type: ignore[assignment]  # a column stands for its declaration
        name: Mapped[str]

    assert list(mapper_of(User).attributes) == ["id", "name"]
    assert User(id=3, name="x").id == 3


def test_mixins_give_each_class_columns_of_its_own(base: Any) -> None:
    class Owned:
        created: Mapped[datetime.datetime] = mapped_column(default=datetime.datetime.now, sort_order=9)
        note = Column(String(5))

        @declared_attr
        def owner_id(cls) -> Mapped[int]:
            return mapped_column(ForeignKey("user.id"))

        @declared_attr
        def owner(cls) -> Mapped["User"]:
            return relationship(foreign_keys=[cls.owner_id])

        @declared_attr.directive
        def __tablename__(cls) -> str:
            return cls.__name__.lower()  # type: ignore[attr-defined,no-any-return]

    class User(base):
        __tablename__ = "user"
        id: Mapped[PrimaryKey]

    class Book(Owned, base):
        id: Mapped[PrimaryKey]

    class Disc(Owned, base):
        id: Mapped[PrimaryKey]

    assert list(Book.__table__.c.keys()) == ["id", "note", "owner_id", "created"]
    assert Book.__table__.name == "book"
    assert Book.__table__.c.note is not Disc.__table__.c.note
    assert mapper_of(Disc).relationships["owner"].target is mapper_of(User)
    assert str(mapper_of(Disc).relationships["owner"].primaryjoin) == '"user".id = disc.owner_id'


def test_abstract_bases_are_not_mapped_and_are_inherited(base: Any) -> None:
    class Numbered(base):
        __abstract__ = True
        id: Mapped[PrimaryKey]

    class User(Numbered):
        __tablename__ = "user"

    assert "__mapper__" not in Numbered.__dict__
    assert list(User.__table__.c.keys()) == ["id"]


def test_attributes_can_be_added_to_a_mapped_class(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[PrimaryKey]

    class Post(base):
        __tablename__ = "post"
        id: Mapped[PrimaryKey]
        user_id: Mapped[Reference]

    User.post_count = column_property(select(func.count(Post.id)).where(Post.user_id == User.id).scalar_subquery())
    User.posts = relationship(Post)
    User.nick = mapped_column(String(5))

    assert "count(post.id)" in str(select(User.post_count))
    assert User(posts=[Post()], nick="x").nick == "x"
    assert "nick" in User.__table__.c


def test_mapper_arguments(base: Any) -> None:
    class User(base):
        __tablename__ = "user"
        id: Mapped[PrimaryKey]
        version: Mapped[int] = mapped_column()
        secret = Column(String)
        __mapper_args__: ClassVar[Any] = {"version_id_col": version, "eager_defaults": True}

    mapper = mapper_of(User)
    assert mapper.version_id is mapper.column_attributes["version"]
    assert mapper.version_id_generator is not None
    assert not isinstance(mapper.version_id_generator, bool)
    assert [mapper.version_id_generator(value) for value in (None, 4)] == [1, 5]
    assert mapper.eager_defaults is True


def test_primary_key_of_a_table_without_one_can_be_named(base: Any) -> None:
    view = Table("view", base.metadata, Column("a", Integer), Column("b", Integer), Column("c", Integer))

    class Row(base):
        __table__ = view
        __mapper_args__: ClassVar[Any] = {"primary_key": [view.c.a, view.c.b], "exclude_properties": ["c"]}

    mapper = mapper_of(Row)
    assert [attribute.key for attribute in mapper.primary_key_attributes] == ["a", "b"]
    assert list(mapper.attributes) == ["a", "b"]
    assert mapper.identity_key([1, 2]) == (Row, (1, 2), None)


def test_naming_conventions_come_with_the_metadata() -> None:
    class Base(DeclarativeBase):
        metadata = sqlalchemy.MetaData(naming_convention={"uq": "uq_%(table_name)s_%(column_0_name)s"})

    class User(Base):
        __tablename__ = "user"
        id: Mapped[PrimaryKey]
        name: Mapped[str] = mapped_column(unique=True)

    assert "uq_user_name" in {constraint.name for constraint in User.__table__.constraints}


def test_names_known_to_type_checkers_only_are_named_in_the_error(base: Any) -> None:
    body = {
        "__tablename__": "t",
        "__module__": __name__,
        "__annotations__": {"id": Mapped[PrimaryKey], "x": "Mapped[Missing]"},
    }

    with pytest.raises(MappingError, match=r"T\.x: the name 'Missing' is not known here"):
        type("T", (base,), body)
