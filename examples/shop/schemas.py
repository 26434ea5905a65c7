"""What goes over the wire? Amounts are whole numbers of cents."""

from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Article = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)]
Quantity = Annotated[int, Field(ge=1, le=1000)]
Price = Annotated[int, Field(ge=1, le=1_000_000)]


class Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WantedLine(Request):
    article: Article
    quantity: Quantity
    price: Price


class WantedOrder(Request):
    """What somebody wants to buy, and whose money is to pay for it."""

    account: int
    lines: Annotated[list[WantedLine], Field(min_length=1, max_length=100)]

    @property
    def amount(self) -> int:
        """What it costs."""
        return sum(line.quantity * line.price for line in self.lines)


class AccountOut(Answer):
    id: int
    owner: str
    balance: int


class LineOut(Answer):
    article: str
    quantity: int
    price: int


class OrderOut(Answer):
    id: int
    key: UUID
    account_id: int
    amount: int
    lines: list[LineOut]


class Health(BaseModel):
    """How the two databases are with each other."""

    prepared: int
    """Units of work of which something is prepared now, those included that are being committed."""
    in_doubt: int
    """Those of them that nobody is going to finish but recovery: they are too old to be under way."""


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str
