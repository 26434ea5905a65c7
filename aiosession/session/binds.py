"""Find the engine or connection that a class or a statement is for.

The order is: the class (or one of its bases) in ``binds``, its table in ``binds``, the classes and tables of the
statement in ``binds``, the session's ``bind``, an error that says what was looked for and what there is.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from sqlalchemy import ClauseElement, TableClause
from sqlalchemy.sql import visitors

from aiosession.core import entity_of
from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.errors import ArgumentError, InvalidRequestError, UnboundExecutionError
from aiosession.mapping.mapper import AnyMapper, EntityRef, Mapper
from aiosession.transaction.bind import Bind
from aiosession.transaction.context import checked_bind

BindKey: TypeAlias = type[Any] | AnyMapper | TableClause
"""What a bind can be registered for: a mapped class or any base of one, a mapper, a table."""


class BindTable:
    """Where the classes and tables of a session live."""

    __slots__ = ("bind", "binds")

    def __init__(self, bind: Bind | None, binds: Mapping[BindKey, Bind] | None) -> None:
        self.bind: Final = None if bind is None else checked_bind(bind, "bind takes")
        if binds is not None and not isinstance(binds, Mapping):
            raise ArgumentError(f"binds is a mapping from classes and tables to engines, not {binds!r}")
        self.binds: Final = (
            {} if binds is None else {_key(key): checked_bind(at, "binds take") for key, at in binds.items()}
        )

    def locate(self, mapper: AnyMapper | None, clause: ClauseElement | None, /, **hints: object) -> Bind:
        """Return the bind of a class or a statement."""
        if hints:
            raise ArgumentError(
                f"bind_arguments are bind, mapper and clause, unless get_bind() is overridden; got {', '.join(hints)}"
            )
        if self.binds:
            for key in _keys(mapper, clause):
                if key in self.binds:
                    return self.binds[key]
        if self.bind is None:
            raise UnboundExecutionError(self._explain(mapper, clause))
        return self.bind

    def bind_to(self, key: BindKey, bind: Bind) -> None:
        """Register *bind* for a class, a mapper or a table, whatever there was before."""
        self.binds[_key(key)] = checked_bind(bind, "bind takes")

    def engine(self) -> AsyncEngine | None:
        """Return ``bind`` for use by another session at the same time; a connection cannot be shared."""
        if any(isinstance(bind, AsyncConnection) for bind in (self.bind, *self.binds.values())):
            raise InvalidRequestError(
                "this session is bound to a connection, which another session cannot use at the same time; bind "
                "sessions that are to be forked to engines"
            )
        return self.bind if isinstance(self.bind, AsyncEngine) else None

    def _explain(self, mapper: AnyMapper | None, clause: ClauseElement | None) -> str:
        sought = dict.fromkeys(_name(key) for key in _keys(mapper, clause) if key is not object)
        wanted = f"looked for {', '.join(sought)}" if sought else "neither a class nor a table is part of it"
        known = ", ".join(sorted(map(_name, self.binds))) or "none"
        return (
            f"no engine or connection is known for this statement: {wanted}; classes and tables in binds: {known}; "
            f"bind: none. Pass bind=engine (or binds={{...}}) to the session or its async_sessionmaker, or name the "
            f"place for this call: bind_arguments={{'mapper': SomeClass}} or {{'bind': engine}}"
        )


def _keys(mapper: AnyMapper | None, clause: ClauseElement | None) -> Iterator[type[Any] | TableClause]:
    if mapper is not None:
        yield from mapper.class_.__mro__
        yield mapper.table
    if clause is not None:
        if not isinstance(clause, ClauseElement):
            raise ArgumentError(f"the clause that a bind is looked for is a statement or a table, not {clause!r}")
        for element in visitors.iterate(clause):
            entity = entity_of(element)
            if isinstance(entity, EntityRef):
                yield from entity.mapper.class_.__mro__
                yield entity.mapper.table
            elif isinstance(element, TableClause):
                yield element
            else:
                table = getattr(element, "table", None)
                if isinstance(table, TableClause):
                    yield table


def _key(key: BindKey) -> type[Any] | TableClause:
    if isinstance(key, Mapper):
        return key.class_
    if isinstance(key, type | TableClause):
        return key
    raise ArgumentError(f"keys of binds are mapped classes, mappers and tables, not {key!r}")


def _name(key: type[Any] | TableClause) -> str:
    return f"table {key.fullname}" if isinstance(key, TableClause) else f"class {key.__qualname__}"
