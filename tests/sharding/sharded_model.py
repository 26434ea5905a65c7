"""The classes that the tests of sharding work on: customers by region with orders, tags, notes; and their shards."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import JSON, Column, ForeignKey, Integer, Table, select

from aiosession import (
    AsyncConnection,
    AsyncEngine,
    DeclarativeBase,
    Mapped,
    Mapper,
    async_sessionmaker,
    inspect,
    mapped_column,
    relationship,
)
from aiosession.ext.sharding import ShardedExecution, ShardedSession

SHARDS = ("eu", "us", "asia")


class Base(DeclarativeBase):
    pass


order_tag = Table(
    "order_tag",
    Base.metadata,
    Column("order_id", Integer, ForeignKey("order.id"), primary_key=True),
    Column("tag_id", Integer, ForeignKey("tag.id"), primary_key=True),
)


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str]
    name: Mapped[str]
    score: Mapped[int | None]
    orders: Mapped[list["Order"]] = relationship(
        back_populates="customer", cascade="all, delete-orphan", order_by="Order.id"
    )
    notes: Mapped[list["Note"]] = relationship(order_by="Note.id")


class Order(Base):
    __tablename__ = "order"
    id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship(back_populates="orders")
    tags: Mapped[list["Tag"]] = relationship(secondary=order_tag, order_by="Tag.id")


class Tag(Base):
    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    region: Mapped[str] = mapped_column(default="eu")


class Note(Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]
    customer_id: Mapped[int | None] = mapped_column(ForeignKey("customer.id"))


class Kept(Base):
    __tablename__ = "kept"
    id: Mapped[int] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSON)


def choose_shard(mapper: Mapper[Any], instance: Any, clause: object = None) -> str:
    """Send customers and tags to their regions, orders to their customers; notes to the east."""
    if isinstance(instance, Order):
        place: str = inspect(instance.customer).identity_token
        return place
    region: str = getattr(instance, "region", "asia")
    return region


def choose_for_key(mapper: Mapper[Any], primary_key: tuple[Any, ...], **_said: Any) -> Sequence[str]:
    """Look everywhere."""
    return SHARDS


def choose_for_statement(context: ShardedExecution) -> Sequence[str]:
    """Ask everywhere."""
    return SHARDS


def make_sessions(
    shards: Mapping[str, AsyncEngine | AsyncConnection], **options: Any
) -> async_sessionmaker[ShardedSession]:
    """Return a maker of sessions over *shards*; *options* replace single ones."""
    usual: dict[str, Any] = {
        "shards": shards,
        "shard_chooser": choose_shard,
        "identity_chooser": choose_for_key,
        "execute_chooser": choose_for_statement,
    }
    return async_sessionmaker(class_=ShardedSession, **{**usual, **options})


async def make_tables(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.drop_all(Base.metadata)
        await connection.create_all(Base.metadata)


async def names_in(engine: AsyncEngine) -> list[str]:
    """Return the names of the customers of a shard as somebody else sees them."""
    async with engine.connect() as connection:
        return list((await connection.scalars(select(Customer.name).order_by(Customer.name))).all())


async def fill(shards: Mapping[str, AsyncEngine]) -> None:
    """Write two customers to each shard, with the same primary keys everywhere, and two orders for each."""
    scores = iter([5, None, 3, 1, None, 4])
    async with make_sessions(shards)() as session:
        for region in SHARDS:
            for number in (1, 2):
                customer = Customer(id=number, region=region, name=f"{region} {number}", score=next(scores))
                customer.orders = [Order(id=number * 10 + place, amount=number * 100 + place) for place in (1, 2)]
                session.add(customer)
        await session.commit()
