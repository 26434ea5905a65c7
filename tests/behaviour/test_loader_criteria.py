"""``with_loader_criteria()``: one option limits an entity wherever the statement reads it."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import ForeignKey, delete, exists, func, select, update

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    aliased,
    contains_eager,
    events,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    with_loader_criteria,
)
from aiosession.errors import ArgumentError
from aiosession.testing.statements import StatementLog


class Base(DeclarativeBase):
    pass


class SoftDeleted:
    deleted: Mapped[bool] = mapped_column(default=False)


class Shop(Base):
    __tablename__ = "shop"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    items: Mapped[list["Item"]] = relationship(back_populates="shop", order_by="Item.id")


class Item(SoftDeleted, Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant: Mapped[int]
    shop_id: Mapped[int] = mapped_column(ForeignKey("shop.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("item.id"))
    shop: Mapped[Shop] = relationship(back_populates="items")
    parts: Mapped[list["Part"]] = relationship(order_by="Part.id")
    children: Mapped[list["Item"]] = relationship()


class Part(SoftDeleted, Base):
    __tablename__ = "part"
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))


PRESENT = with_loader_criteria(SoftDeleted, lambda class_: class_.deleted.is_(False))


@pytest.fixture
async def session(engine: AsyncEngine, statements: StatementLog) -> AsyncIterator[AsyncSession]:
    """Two shops; items 1 and 2 (deleted) of the first, 3 (deleted) of the second; parts n1, n2 (deleted) of item n."""
    async with engine.begin() as connection:
        await connection.create_all(Base.metadata)
    async with AsyncSession(engine) as session:
        session.add_all([Shop(id=1, tenant=1), Shop(id=2, tenant=2)])
        for number, shop in ((1, 1), (2, 1), (3, 2)):
            parts = [Part(id=10 * number + 1), Part(id=10 * number + 2, deleted=True)]
            parent = 1 if number == 2 else None
            item = Item(id=number, tenant=shop, shop_id=shop, parent_id=parent, deleted=number != 1, parts=parts)
            session.add(item)
        await session.commit()
    statements.clear()
    async with AsyncSession(engine) as session:
        yield session


def of_tenant(class_: type[Item], tenant: int) -> Any:
    return class_.tenant == tenant


def ids(objects: list[Item] | list[Part]) -> list[int]:
    return [each.id for each in objects]


async def test_the_entity_itself_is_limited(session: AsyncSession) -> None:
    assert ids(list(await session.scalars(select(Item).options(PRESENT)))) == [1]


async def test_columns_of_the_entity_are_limited(session: AsyncSession) -> None:
    assert await session.scalar(select(func.count(Item.id)).options(PRESENT)) == 1


async def test_an_inner_join_along_a_relation_is_limited(session: AsyncSession) -> None:
    assert (await session.scalars(select(Shop.id).join(Shop.items).options(PRESENT))).all() == [1]


async def test_an_outer_join_keeps_the_rows_of_its_left_side(session: AsyncSession) -> None:
    query = select(Shop.id, Item.id).outerjoin(Shop.items).order_by(Shop.id).options(PRESENT)

    assert [tuple(row) for row in await session.execute(query)] == [(1, 1), (2, None)]


async def test_a_join_of_an_entity_with_a_condition_is_limited(session: AsyncSession) -> None:
    query = select(Shop.id, Item.id).outerjoin(Item, Item.shop_id == Shop.id).order_by(Shop.id).options(PRESENT)

    assert [tuple(row) for row in await session.execute(query)] == [(1, 1), (2, None)]


async def test_a_scalar_subquery_is_limited(session: AsyncSession) -> None:
    count = select(func.count(Item.id)).where(Item.shop_id == Shop.id).scalar_subquery()

    rows = await session.execute(select(Shop.id, count).order_by(Shop.id).options(PRESENT))

    assert [tuple(row) for row in rows] == [(1, 1), (2, 0)]


async def test_a_derived_table_is_limited_also_beside_the_entity_itself(session: AsyncSession) -> None:
    present = select(Item.id, Item.shop_id).subquery()

    query = select(Item.id, present.c.id).where(Item.shop_id == present.c.shop_id).options(PRESENT)

    assert [tuple(row) for row in await session.execute(query)] == [(1, 1)]


async def test_exists_and_any_are_limited(session: AsyncSession) -> None:
    by_any = select(Shop.id).where(Shop.items.any()).options(PRESENT)
    by_exists = select(Shop.id).where(exists().where(Item.shop_id == Shop.id)).options(PRESENT)

    assert (await session.scalars(by_any)).all() == [1]
    assert (await session.scalars(by_exists)).all() == [1]


async def test_any_of_a_relation_to_the_same_class_is_limited(session: AsyncSession) -> None:
    assert (await session.scalars(select(Item.id).where(Item.children.any()))).all() == [1]
    assert (await session.scalars(select(Item.id).where(Item.children.any()).options(PRESENT))).all() == []


async def test_selectin_loads_are_limited_at_every_level(session: AsyncSession) -> None:
    query = select(Shop).order_by(Shop.id).options(selectinload(Shop.items).selectinload(Item.parts), PRESENT)

    shops = (await session.scalars(query)).all()

    assert [[(item.id, ids(item.parts)) for item in shop.items] for shop in shops] == [[(1, [11])], []]


async def test_joined_loads_are_limited_and_keep_their_owners(session: AsyncSession, statements: StatementLog) -> None:
    option = joinedload(Shop.items, innerjoin=True).joinedload(Item.parts, innerjoin=True)

    shops = (await session.scalars(select(Shop).order_by(Shop.id).options(option, PRESENT))).all()

    assert statements.count == 1
    assert [[(item.id, ids(item.parts)) for item in shop.items] for shop in shops] == [[(1, [11])], []]


async def test_contains_eager_holds_what_the_limited_join_finds(session: AsyncSession) -> None:
    query = select(Shop).outerjoin(Shop.items).order_by(Shop.id).options(contains_eager(Shop.items), PRESENT)

    assert [ids(shop.items) for shop in await session.scalars(query)] == [[1], []]


async def test_later_loads_are_limited_too(session: AsyncSession) -> None:
    shop = (await session.scalars(select(Shop).where(Shop.id == 1).options(PRESENT))).one()

    await session.load(shop, Shop.items, Item.parts)

    assert [(item.id, ids(item.parts)) for item in shop.items] == [(1, [11])]


async def test_later_loads_are_not_limited_without_propagation(session: AsyncSession) -> None:
    option = with_loader_criteria(Item, Item.deleted.is_(False), propagate_to_loaders=False)
    shop = (await session.scalars(select(Shop).where(Shop.id == 1).options(option))).one()

    await session.load(shop, Shop.items)

    assert ids(shop.items) == [1, 2]


@pytest.mark.parametrize(("included", "found"), [(False, [1, 2, 3]), (True, [1])])
async def test_aliases_are_limited_if_they_are_included(
    session: AsyncSession, *, included: bool, found: list[int]
) -> None:
    option = with_loader_criteria(Item, Item.deleted.is_(False), include_aliases=included)
    item = aliased(Item)

    assert (await session.scalars(select(item.id).order_by(item.id).options(option))).all() == found


@pytest.mark.parametrize("loads", [selectinload, joinedload])
async def test_every_execution_has_its_own_values(session: AsyncSession, loads: Callable[..., Any]) -> None:
    for tenant in (1, 2, 1, 3):
        session.expunge_all()
        option = with_loader_criteria(Item, partial(of_tenant, tenant=tenant))
        shops = await session.scalars(select(Shop).order_by(Shop.id).options(option, loads(Shop.items)))

        assert [ids(shop.items) for shop in shops] == [[1, 2] if tenant == 1 else [], [3] if tenant == 2 else []]


async def test_every_execution_of_one_structure_has_its_own_values(session: AsyncSession) -> None:
    for tenant in (1, 2, 1, 3):
        option = with_loader_criteria(Item, Item.tenant == tenant)
        found = await session.scalars(select(Item.id).where(Item.id > 0, Item.shop_id < 5).options(option))

        assert sorted(found) == {1: [1, 2], 2: [3], 3: []}[tenant]


async def test_unions_are_limited_in_each_part(session: AsyncSession) -> None:
    both = select(Item.id).where(Item.id < 3).union_all(select(Item.id).where(Item.id == 3))

    assert (await session.scalars(both.options(PRESENT))).all() == [1]


async def test_streams_are_limited(session: AsyncSession) -> None:
    stream = await session.stream_scalars(select(Item.id).options(PRESENT))

    assert [each async for each in stream] == [1]


async def test_update_and_delete_are_limited(session: AsyncSession) -> None:
    await session.execute(update(Item).values(tenant=9).options(PRESENT))
    await session.execute(delete(Part).options(PRESENT))

    assert (await session.scalars(select(Item.id).where(Item.tenant == 9))).all() == [1]
    assert (await session.scalars(select(Part.id).order_by(Part.id))).all() == [12, 22, 32]


async def test_a_handler_hides_deleted_rows_from_every_query(session: AsyncSession) -> None:
    @events.listens_for(session, "do_orm_execute")
    def hide_deleted(state: ORMExecuteState) -> None:
        if state.is_select and not state.session.info.get("include_deleted", False):
            state.statement = state.statement.options(PRESENT)

    assert ids(list(await session.scalars(select(Item)))) == [1]
    session.info["include_deleted"] = True
    assert sorted(await session.scalars(select(Item.id))) == [1, 2, 3]


async def test_a_handler_keeps_tenants_apart(engine: AsyncEngine, session: AsyncSession) -> None:
    for tenant in (1, 2):
        async with AsyncSession(engine, info={"tenant": tenant}) as own:

            @events.listens_for(own, "do_orm_execute")
            def only_tenant(state: ORMExecuteState) -> None:
                wanted = state.session.info["tenant"]
                for class_ in (Shop, Item):
                    state.statement = state.statement.options(
                        with_loader_criteria(class_, class_.tenant == wanted, include_aliases=True)
                    )

            assert (await own.scalars(select(Shop.id))).all() == [tenant]
            assert (await own.scalars(select(Item.id).join(Item.shop).order_by(Item.id))).all() == (
                [1, 2] if tenant == 1 else [3]
            )


async def test_a_full_join_cannot_be_limited(session: AsyncSession) -> None:
    query = select(Shop.id, Item.id).join(Shop.items, full=True).options(PRESENT)

    with pytest.raises(ArgumentError, match="FULL JOIN"):
        await session.execute(query)


def test_an_alias_is_no_class_to_limit() -> None:
    with pytest.raises(ArgumentError, match="include_aliases=True is for aliases"):
        with_loader_criteria(aliased(Item), Item.deleted.is_(False))
