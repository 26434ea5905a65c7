"""What does the shop keep? Accounts in one database, orders with their lines in another."""

from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, String, Uuid

from aiosession import DeclarativeBase, Mapped, mapped_column, relationship


class Bank(DeclarativeBase):
    """Everything in the database of accounts."""


class Books(DeclarativeBase):
    """Everything in the database of orders."""


class Account(Bank):
    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(String(80))
    balance: Mapped[int]
    """In cents."""

    __table_args__ = (CheckConstraint("balance >= 0", name="account_covered"),)


class Order(Books):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[UUID] = mapped_column(Uuid, unique=True)
    """Chosen by the client: a request that is repeated finds the order that it made."""
    account_id: Mapped[int] = mapped_column(index=True)
    """No foreign key: the account is in another database."""
    amount: Mapped[int]

    lines: Mapped[list["Line"]] = relationship(
        back_populates="order", cascade="all, delete-orphan", order_by="Line.number"
    )


class Line(Books):
    __tablename__ = "line"

    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    article: Mapped[str] = mapped_column(String(80))
    quantity: Mapped[int]
    price: Mapped[int]
    """Of one piece, in cents."""

    order: Mapped[Order] = relationship(back_populates="lines")
