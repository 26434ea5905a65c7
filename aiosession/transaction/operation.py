"""What is a database asked for? What a session tells its get_bind() about the statement that is to be sent."""

from enum import Enum

from sqlalchemy.sql.dml import UpdateBase


class Operation(Enum):
    """What a session is about to do on the engine or connection that it asks ``get_bind()`` for."""

    READ = "read"
    """A query that reads and does nothing else, so that a copy of the database can answer it."""
    FLUSH = "flush"
    """What a flush or a bulk method writes, and what it has to read for that."""
    WRITE = "write"
    """An INSERT, UPDATE or DELETE that was given to ``execute()``."""
    STATEMENT = "statement"
    """Anything else: SQL text, rows that are locked, functions of which it is not known that they only read."""
    CONNECTION = "connection"
    """The connection of the transaction, for ``connection()``."""


def operation_of(clause: object, *, pure: bool, flushing: bool) -> Operation:
    """Return what sending *clause* is; it is None where the session itself reads, or locks, rows of a class."""
    if flushing:
        return Operation.FLUSH
    if pure:
        return Operation.READ
    return Operation.WRITE if isinstance(clause, UpdateBase) else Operation.STATEMENT
