"""Load from several databases that hold rows of the same classes: which of them, and all of them side by side.

What waits for databases runs in tasks of its own, but connections are taken into the transaction one after the other
before that, so that handlers of events are called by the operation that the application awaits.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import ClauseElement, Insert, Select
from sqlalchemy.sql.dml import UpdateBase

from aiosession import core
from aiosession.aio import together
from aiosession.errors import ArgumentError
from aiosession.loading.expand import expand_joins
from aiosession.loading.options import PlaceOption
from aiosession.mapping.mapper import AnyMapper, EntityRef
from aiosession.state.state import EntityState
from aiosession.transaction.context import SessionContext
from aiosession.transaction.placement import Placement

T = TypeVar("T")
Work: TypeAlias = Callable[[], Coroutine[Any, Any, T]]
OfStates: TypeAlias = Callable[[object | None, Sequence[EntityState]], Coroutine[Any, Any, None]]


# Which of them -------------------------------------------------------------------------------------------------------


async def places_of_statement(
    context: SessionContext, placement: Placement, statement: Any, parameters: Any, settings: Mapping[str, Any]
) -> Sequence[object]:
    """Return where a statement goes: as it says itself, as the call says, or as whoever decides."""
    token = settings.get("identity_token")
    if token is None:
        token = place_in(_options(statement))
    if token is None and context.override is not None:
        return [placement.token(context.override)]
    if token is not None:
        placement.bind(token)
        return [token]
    if isinstance(statement, Insert):
        raise ArgumentError(
            "an INSERT statement goes to one shard, which it has to name: insert(...).options(set_shard_id(...)), or "
            "execute(..., bind_arguments={'shard_id': ...}); objects that are added are sent where shard_chooser says"
        )
    return await placement.for_statement(statement, parameters, settings, _entities(statement))


async def places_of_key(
    context: SessionContext,
    placement: Placement,
    mapper: AnyMapper,
    primary_key: tuple[object, ...],
    said: Mapping[str, Any],
) -> Sequence[object]:
    """Return where to look for a primary key."""
    if context.override is not None:
        return [placement.token(context.override)]
    return await placement.for_key(mapper, primary_key, said)


def place_in(options: Iterable[object]) -> object | None:
    """Return the place that the last of some options names."""
    named = [option.identity_token for option in options if isinstance(option, PlaceOption)]
    return named[-1] if named else None


def only_place(tokens: Sequence[object], what: str) -> object:
    """Return the one place of *what*, or refuse it."""
    if len(tokens) == 1:
        return tokens[0]
    raise ArgumentError(
        f"{what} goes to one shard, not to {', '.join(map(repr, tokens))}; name it with .options(set_shard_id(...)) or "
        f"bind_arguments={{'shard_id': ...}}, or let execute_chooser return one"
    )


def _options(statement: Any) -> Iterable[object]:
    inner = core.with_options(statement.entities) if isinstance(statement, core.EntitiesFrom) else ()
    return (*inner, *core.with_options(statement))


def _entities(statement: Any) -> tuple[type[Any], ...]:
    """Return the mapped classes that a statement names, in order."""
    parts: list[Any] = []
    if isinstance(statement, core.EntitiesFrom):
        statement = statement.entities
    if isinstance(statement, Select):
        joins = [target for target, *_ in core.setup_joins(expand_joins(statement))]
        parts = [*core.raw_columns(statement), *core.from_objects(statement), *joins]
    elif isinstance(statement, UpdateBase):
        parts = [statement.table]
    found = [entity.mapper.class_ for each in parts if isinstance(entity := core.entity_of(each), EntityRef)]
    return tuple(dict.fromkeys(found))


# All of them ----------------------------------------------------------------------------------------------------------


async def at_places(
    context: SessionContext, work: Mapping[object, Work[T]], *, pure: bool, clause: ClauseElement | None = None
) -> list[T]:
    """Do something in each place, side by side; an error says in which place it came up.

    With *pure* nothing but reading is done, for which no transaction has to begin; otherwise *clause* is what is sent.
    """
    if context.placement is None:
        return [await each() for each in work.values()]
    for token in work:
        with _noting(token):
            await context.wire(clause=clause, pure=pure, token=token)
    return await together([_noted(token, each) for token, each in work.items()])


async def in_each_place(context: SessionContext, states: Sequence[EntityState], work: OfStates) -> None:
    """Do something with the objects of each place, side by side."""
    if not context.workspace.has_tokens and context.placement is None:
        await work(None, states)
        return
    groups: dict[object, list[EntityState]] = {}
    for state in states:
        token = state.place
        if token is None and context.placement is not None:
            token = await context.placement.for_new(state.mapper, state())
        groups.setdefault(token, []).append(state)
    await at_places(context, {token: partial(work, token, group) for token, group in groups.items()}, pure=True)


@contextmanager
def _noting(token: object) -> Iterator[None]:
    """Say in an error that comes up within the block in which place that was."""
    try:
        yield
    except Exception as error:
        error.add_note(f"on shard {token!r}")
        raise


async def _noted(token: object, work: Work[T]) -> T:
    with _noting(token):
        return await work()
