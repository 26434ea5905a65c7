"""What the cases share: a table, two connections, the list of all cases, and faults that must look alike."""

# ruff: noqa: D103, PT017 - any test runner may use it

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

from aiosession import errors
from aiosession.drivers.protocol import (
    Driver,
    DriverConnection,
    TransactionStatus,
)

Case: TypeAlias = Callable[[Driver], Awaitable[None]]

TABLE: Final = """
    CREATE TABLE conformance (
        id INTEGER PRIMARY KEY,
        name VARCHAR(20) NOT NULL UNIQUE,
        parent INTEGER,
        amount INTEGER CHECK (amount >= 0),
        FOREIGN KEY (parent) REFERENCES conformance (id)
    )
"""
_DIGITS: Final = "WITH d(n) AS (" + " UNION ALL ".join(f"SELECT {digit} AS n" for digit in range(10)) + ")"
_NUMBER: Final = " + ".join(f"{letter}.n * {10**place}" for place, letter in enumerate("ijklmnpqr"))
_ALL: Final = ", ".join(f"d {letter}" for letter in "ijklmnpqr")
ENDLESS: Final = f"{_DIGITS} SELECT max({_NUMBER}) FROM {_ALL}"
ENDLESS_INSERT: Final = f"INSERT INTO conformance (id, name) {_DIGITS} SELECT {_NUMBER} + 100, {_NUMBER} FROM {_ALL}"
SOON: Final = 10.0
CASES: Final[list[Case]] = []
"""All cases; each has a name that says what it demands."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A statement that must fail in the same way everywhere."""

    sql: str
    """With ``{0}``, ``{1}`` where the parameters go; the table has one row, (1, 'one', NULL, 1)."""
    parameters: Sequence[object]
    expected: type[errors.DatabaseError]


INSERT: Final = "INSERT INTO conformance (id, name, parent, amount) VALUES ({0}, {1}, {2}, {3})"
FAULTS: Final = {
    "duplicate primary key": Fault(INSERT, (1, "two", None, 1), errors.UniqueViolationError),
    "duplicate unique value": Fault(INSERT, (2, "one", None, 1), errors.UniqueViolationError),
    "foreign key to nowhere": Fault(INSERT, (2, "two", 9, 1), errors.ForeignKeyViolationError),
    "null where none may be": Fault(INSERT, (2, None, None, 1), errors.NotNullViolationError),
    "check violated": Fault(INSERT, (2, "two", None, -1), errors.CheckViolationError),
    "unknown table": Fault("SELECT * FROM nowhere", (), errors.ProgrammingError),
    "unknown column": Fault("SELECT nothing FROM conformance", (), errors.ProgrammingError),
    "syntax": Fault("SELEC 1", (), errors.ProgrammingError),
    "too few parameters": Fault("SELECT * FROM conformance WHERE id = {0}", (), errors.ProgrammingError),
    "too many parameters": Fault("SELECT * FROM conformance WHERE id = {0}", (1, 2), errors.ProgrammingError),
    "number too large": Fault(INSERT, (2**70, "two", None, 1), errors.DataError),
    "text for a number": Fault(INSERT, ("x", "two", None, 1), errors.DataError),
    "object for a text": Fault(INSERT, (2, object(), None, 1), errors.DataError),
    "surrogate in text": Fault(INSERT, (2, "\ud800", None, 1), errors.DataError),
}
"""Faults by name, with the class that `Driver.translate` must give for each."""


_PLACES: Final = {"numeric_dollar": "${}", "qmark": "?", "format": "%s"}


def sql_for(driver: Driver, text: str) -> str:
    """Put the driver's placeholders in for ``{0}``, ``{1}`` ..."""
    place = _PLACES[driver.dialect.paramstyle]
    return text.format(*(place.format(number) for number in range(1, 11)))


@asynccontextmanager
async def connected(driver: Driver) -> AsyncIterator[DriverConnection]:
    """Open a connection for the length of a block."""
    connection = await driver.connect()
    try:
        yield connection
    finally:
        if connection.status not in (TransactionStatus.IDLE, TransactionStatus.CLOSED):
            await connection.reset()
        await connection.close()
        connection.terminate()


@asynccontextmanager
async def table(driver: Driver) -> AsyncIterator[tuple[DriverConnection, DriverConnection]]:
    """Make the table with one row; yield a connection to work with and one to look from outside."""
    async with connected(driver) as connection, connected(driver) as observer:
        await observer.script(TABLE)
        try:
            await connection.execute(sql_for(driver, INSERT), (1, "one", None, 1))
            yield connection, observer
        finally:
            if connection.status not in (TransactionStatus.IDLE, TransactionStatus.CLOSED):
                await connection.reset()
            await observer.rollback()
            await observer.script("DROP TABLE conformance")


def case(function: Case) -> Case:
    """Add a case to `CASES`."""
    CASES.append(function)
    return function


def status(connection: DriverConnection) -> TransactionStatus:
    """Return the status as it is now (type checkers believe that a property they have seen stays as it was)."""
    return connection.status


async def names(connection: DriverConnection) -> list[object]:
    """Return the names in the table."""
    return [row[0] for row in await connection.fetch("SELECT name FROM conformance ORDER BY id")]


async def failure(driver: Driver, awaitable: Awaitable[object]) -> type[errors.DatabaseError] | None:
    """Return what the driver makes of the error of *awaitable*, None if there was none."""
    try:
        await awaitable
    except Exception as error:
        translated = driver.translate(error)
        assert translated is not None, f"{error!r} is not translated"
        return translated
    return None


def row(number: int) -> tuple[object, ...]:
    return (number, f"row {number}", None, number)
