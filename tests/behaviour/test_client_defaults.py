"""Defaults that Python computes, and what None means to them."""

from itertools import count
from typing import Any

import pytest
from sqlalchemy import JSON, String, func, null, select, text
from sqlalchemy.types import TypeDecorator
from typing_extensions import override

from aiosession import AsyncEngine, AsyncSession, DeclarativeBase, Mapped, mapped_column
from aiosession.errors import NotLoadedError
from aiosession.testing.statements import StatementLog

_counter = count(1)


def _next() -> int:
    return next(_counter)


def _label(context: Any) -> str:
    return f"{context.get_current_parameters()['name']} in {context.current_column.key}"


class Dashed(TypeDecorator[str]):
    """Writes a dash where there is None."""

    impl = String
    cache_ok = True

    @override
    def process_bind_param(self, value: str | None, dialect: Any) -> str:
        return "-" if value is None else value

    @override
    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return None if value == "-" else value


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    kind: Mapped[str | None] = mapped_column(default="plain")
    serial: Mapped[int] = mapped_column(insert_default=_next)
    label: Mapped[str] = mapped_column(default=_label)
    shout: Mapped[str | None] = mapped_column(default=func.upper("new"), onupdate=func.upper("changed"))
    edits: Mapped[int | None] = mapped_column(onupdate=lambda: 7)
    editor: Mapped[str | None] = mapped_column(
        onupdate=lambda context: "by " + context.get_current_parameters()["name"]
    )
    state: Mapped[str | None] = mapped_column(default="new", onupdate="changed")
    size: Mapped[int | None] = mapped_column(server_default="7")


class Nullish(Base):
    """Where None is a value, and where it is none."""

    __tablename__ = "nullish"
    id: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[Any] = mapped_column(JSON, nullable=True)
    defaulted: Mapped[Any] = mapped_column(JSON, nullable=True, default=lambda: {"a": 1})
    served: Mapped[Any] = mapped_column(JSON, nullable=True, server_default='"there"')
    as_null: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    word: Mapped[str | None] = mapped_column(String(10).evaluates_none(), default="word")
    served_word: Mapped[str | None] = mapped_column(String(10).evaluates_none(), server_default="there")
    dashed: Mapped[str | None] = mapped_column(Dashed(10).evaluates_none())


@pytest.fixture(autouse=True)
async def _tables(engine: AsyncEngine, statements: StatementLog) -> None:
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    statements.clear()


async def _text_of(observer: AsyncEngine, column: str) -> list[str | None]:
    """Read a column as the database has it."""
    async with observer.connect() as connection:
        found = await connection.execute(text(f"SELECT CAST({column} AS VARCHAR(40)) FROM nullish ORDER BY id"))
        return [row[0] for row in found]


async def test_defaults_fill_in_what_was_not_given(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        items = [Item(name="a"), Item(name="b"), Item(name="c")]
        session.add_all(items)

        await session.commit()

        assert [event.kind for event in statements.statements] == ["INSERT"]
        first = items[0].serial
        assert [item.serial for item in items] == [first, first + 1, first + 2]
        assert [item.label for item in items] == ["a in label", "b in label", "c in label"]
        assert {(item.kind, item.shout, item.state, item.size) for item in items} == {("plain", "NEW", "new", 7)}
        assert {(item.edits, item.editor) for item in items} == {(None, None)}


async def test_defaults_leave_alone_what_was_given(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        item = Item(name="a", kind="x", serial=-1, label="y", shout="z", state="w", size=0)
        session.add_all([item, Item(name="b")])
        await session.commit()
    async with AsyncSession(observer) as other:
        stored = await other.get_one(Item, item.id)
        assert (stored.kind, stored.serial, stored.label) == ("x", -1, "y")
        assert (stored.shout, stored.state, stored.size) == ("z", "w", 0)


async def test_none_is_as_good_as_nothing_where_a_default_is(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        item = Item(name="a", kind=None, shout=None, size=None)
        session.add(item)
        await session.flush()
        assert (item.kind, item.shout, item.size) == ("plain", "NEW", 7)


async def test_null_is_null_whatever_the_default(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        item = Item(name="a", kind=null(), shout=null(), size=null())
        session.add(item)
        await session.commit()
        assert (item.kind, item.shout, item.size) == (None, None, None)
    async with AsyncSession(observer) as other:
        stored = await other.get_one(Item, item.id)
        assert (stored.kind, stored.shout, stored.size) == (None, None, None)


async def test_every_update_computes_what_it_is_to(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        items = [Item(name="a"), Item(name="b")]
        session.add_all(items)
        await session.commit()

        for item in items:
            item.name += "!"
        await session.flush()

        assert [(item.edits, item.editor, item.state) for item in items] == [
            (7, "by a!", "changed"),
            (7, "by b!", "changed"),
        ]
        with pytest.raises(NotLoadedError, match=r"Item\.shout"):
            _ = items[0].shout
        statements.clear()
        assert await items[0].awaitable_attrs.shout == "CHANGED"
        assert await items[1].awaitable_attrs.shout == "CHANGED"


async def test_an_update_leaves_alone_what_was_given(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        item = Item(name="a")
        session.add(item)
        await session.commit()
        item.edits, item.state, item.shout, item.editor = 1, "mine", "mine too", "me"
        await session.commit()
    async with AsyncSession(observer) as other:
        stored = await other.get_one(Item, item.id)
        assert (stored.edits, stored.state, stored.shout, stored.editor) == (1, "mine", "mine too", "me")


async def test_an_update_that_writes_nothing_computes_nothing(engine: AsyncEngine, statements: StatementLog) -> None:
    async with AsyncSession(engine) as session:
        item = Item(name="a")
        session.add(item)
        await session.commit()
        statements.clear()

        item.name = "a"
        await session.commit()

        assert statements.count == 0
        assert item.edits is None


NONES: list[Any] = [
    ("content", [None, "null", None]),
    ("defaulted", ['{"a": 1}', "null", None]),
    ("served", ['"there"', "null", None]),
    ("as_null", [None, None, None]),
    ("word", ["word", None, None]),
    ("served_word", ["there", None, None]),
    ("dashed", [None, "-", None]),
]


@pytest.mark.parametrize(("attribute", "stored"), NONES)
async def test_never_set_none_and_null_are_three_things_where_none_is_a_value(
    engine: AsyncEngine, observer: AsyncEngine, attribute: str, stored: list[str | None]
) -> None:
    async with AsyncSession(engine) as session:
        made = [Nullish(), Nullish(**{attribute: None}), Nullish(**{attribute: null()})]
        session.add_all(made)
        await session.commit()
        assert [getattr(each, attribute) for each in made[1:]] == [None, None]

    assert await _text_of(observer, attribute) == stored


async def test_an_update_tells_none_from_null(engine: AsyncEngine, observer: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        made = [Nullish(content=[1], dashed="x"), Nullish(content=[1], dashed="x")]
        session.add_all(made)
        await session.commit()

        made[0].content = made[0].dashed = None
        made[1].content = made[1].dashed = null()
        await session.commit()

        assert [each.content for each in made] == [None, None]
    assert await _text_of(observer, "content") == ["null", None]
    assert await _text_of(observer, "dashed") == ["-", None]


async def test_a_default_may_be_a_subquery(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        session.add(Item(name="a", size=select(func.count(Item.id)).scalar_subquery()))
        await session.flush()

        assert (await session.scalars(select(Item.size))).one() == 0
