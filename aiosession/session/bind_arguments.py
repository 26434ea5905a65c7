"""Where does a call go that says so itself? ``bind_arguments={"bind": engine}``, or what a custom get_bind() takes."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ClauseElement

from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.mapping.inspection import mapper_of
from aiosession.mapping.mapper import AnyMapper
from aiosession.transaction.bind import Bind
from aiosession.transaction.context import SessionContext, awaited_bind


async def bind_of(
    ctx: SessionContext,
    clause: ClauseElement | None,
    arguments: Mapping[str, Any] | None,
    mapper: AnyMapper | None = None,
) -> Bind | None:
    """Return the bind that *arguments* name, directly or through the session's get_bind(); None if they are empty."""
    if not arguments:
        return None
    given = dict(arguments)
    bind: Bind | None = given.pop("bind", None)
    if bind is not None:
        return bind
    entity = given.pop("mapper", mapper)
    sought = given.pop("clause", clause)
    found = ctx.locate(None if entity is None else mapper_of(entity), sought, **given)
    return found if isinstance(found, AsyncEngine | AsyncConnection) else await awaited_bind(found)
