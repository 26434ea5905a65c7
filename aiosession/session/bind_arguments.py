"""Where does a call go that says so itself? ``bind_arguments={"bind": engine}``, or what a custom get_bind() takes."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ClauseElement

from aiosession.errors import ArgumentError
from aiosession.mapping.inspection import mapper_of
from aiosession.mapping.mapper import AnyMapper
from aiosession.sql.purity import is_pure
from aiosession.transaction.bind import Bind
from aiosession.transaction.context import SessionContext, checked_bind
from aiosession.transaction.operation import Operation, operation_of


async def bind_of(
    ctx: SessionContext,
    clause: ClauseElement | None,
    arguments: Mapping[str, Any] | None,
    mapper: AnyMapper | None = None,
    operation: Operation | None = None,
) -> Bind | None:
    """Return the bind that *arguments* name, directly or through the session's get_bind(); None if they are empty."""
    if not arguments:
        return None
    if not isinstance(arguments, Mapping):
        raise ArgumentError(f'bind_arguments is a mapping such as {{"bind": engine}}, not {arguments!r}')
    given = dict(arguments)
    bind = given.pop("bind", None)
    if bind is not None:
        return checked_bind(bind, "bind_arguments take as bind")
    entity = given.pop("mapper", mapper)
    sought = given.pop("clause", clause)
    if sought is not None and not isinstance(sought, ClauseElement):
        raise ArgumentError(f"the clause in bind_arguments is a statement or a table, not {sought!r}")
    if operation is None:
        operation = operation_of(clause, pure=clause is not None and is_pure(clause), flushing=ctx.flushing)
    with ctx.bound_to(None):
        return await ctx.bind(operation, mapper=None if entity is None else mapper_of(entity), clause=sought, **given)
