"""How does a session answer queries? Arguments are checked here; the work is done by `aiosession.loading`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias, TypedDict

from sqlalchemy import ClauseElement, Insert, Update, select

from aiosession import core
from aiosession.engine.execution import AnyResult, Parameters
from aiosession.engine.options import checked as checked_options
from aiosession.errors import ArgumentError, near
from aiosession.loading import get as getting
from aiosession.loading import query
from aiosession.loading.hydrate import LoadRun
from aiosession.loading.options import LoadOption, PlaceOption
from aiosession.loading.places import only_place, place_in, places_of_statement
from aiosession.mapping.mapper import AnyMapper
from aiosession.session import announcing, executing
from aiosession.session.bind_arguments import bind_of
from aiosession.session.bulk import execute_bulk, is_bulk
from aiosession.session.lifecycle import Lock, lock_arguments
from aiosession.transaction.context import SessionContext
from aiosession.transaction.operation import Operation

Options: TypeAlias = Mapping[str, Any]

_LONGEST: Final = 60


class How(TypedDict, total=False):
    """What can be said about the execution of one statement."""

    execution_options: Options | None
    bind_arguments: Mapping[str, Any] | None


class HowToGet(TypedDict, total=False):
    """What can be said about one ``get()``."""

    options: Sequence[LoadOption | PlaceOption] | None
    populate_existing: bool
    with_for_update: Lock
    identity_token: object | None
    execution_options: Options | None
    bind_arguments: Mapping[str, Any] | None


async def execute(
    ctx: SessionContext, statement: object, params: Parameters | None, how: How, *, asks: bool = True
) -> AnyResult:
    """Run one statement and return its result, all in memory; handlers of ``do_orm_execute`` are asked before."""
    ctx.check_open()
    clause = checked(statement)
    if asks and ctx.listens("do_orm_execute"):
        result: AnyResult = await executing.run(ctx, clause, params, how, partial(execute, asks=False))
        return result
    options = execution_options(how, How) if how else {}
    is_many = isinstance(params, list | tuple) and isinstance(clause, Insert | Update) and is_bulk(clause)
    run = _execute_bulk if is_many else query.execute
    if not how:
        answer = await run(ctx, clause, params, options)
    else:
        with ctx.bound_to(await bind_of(ctx, clause, how.get("bind_arguments"), query.mapper_in(clause))):
            answer = await run(ctx, clause, params, options)
    if ctx.listens(*announcing.ABOUT_BULK):
        await announcing.notify_bulk(ctx, clause, params, answer)
    return answer


async def _execute_bulk(ctx: SessionContext, clause: Any, params: Any, options: Options) -> AnyResult:
    settings = {**core.statement_options(clause), **options}
    if settings.get("autoflush", True):
        await ctx.autoflush()
    run = LoadRun(
        ctx.workspace, overwrite=bool(settings.get("populate_existing")), token=settings.get("identity_token")
    )
    if ctx.placement is None:
        return await execute_bulk(ctx, clause, params, run)
    tokens = await places_of_statement(ctx, ctx.placement, clause, params, settings)
    run.token = only_place(tokens, "an UPDATE of rows by their primary keys")
    with ctx.bound_to(ctx.placement.bind(run.token)):
        return await execute_bulk(ctx, clause, params, run)


async def get(ctx: SessionContext, mapper: AnyMapper, identity: object, how: HowToGet) -> Any:
    """Return the object of a primary key in the way that is asked for; None if there is no such row."""
    options = execution_options(how, HowToGet)
    given = _options(how.get("options"))
    token = how.get("identity_token", options.get("identity_token"))
    wish = getting.Wish(
        options=tuple([option for option in given if not isinstance(option, PlaceOption)]),
        overwrite=bool(how.get("populate_existing") or options.get("populate_existing")),
        lock=lock_arguments(how.get("with_for_update")),
        token=place_in(given) if token is None else token,
        said=how,
    )
    fetch = partial(_fetch_asking, ctx, mapper, wish, how) if ctx.listens("do_orm_execute") else None
    operation = Operation.READ if wish.lock is None else Operation.STATEMENT
    with ctx.bound_to(await bind_of(ctx, None, how.get("bind_arguments"), mapper, operation)):
        return await getting.get(ctx, mapper, identity, wish, fetch)


async def _fetch_asking(
    ctx: SessionContext,
    mapper: AnyMapper,
    wish: getting.Wish,
    how: HowToGet,
    primary_key: tuple[object, ...],
    token: object | None,
) -> Any:
    """Read the row of a primary key by a statement that handlers of ``do_orm_execute`` see, change and answer."""
    columns = [mapper.entity.column(attribute) for attribute in mapper.primary_key_attributes]
    criteria = [column == value for column, value in zip(columns, primary_key, strict=True)]
    statement = select(mapper).where(*criteria).options(*wish.options)
    if wish.lock is not None:
        statement = statement.with_for_update(**wish.lock)
    options = {**(how.get("execution_options") or {}), "populate_existing": wish.overwrite}
    if token is not None:
        options["identity_token"] = token
    said: How = {"execution_options": options, "bind_arguments": how.get("bind_arguments")}
    return (await execute(ctx, statement, None, said)).scalars().first()


def _options(options: object) -> tuple[LoadOption | PlaceOption, ...]:
    if options is None:
        return ()
    if isinstance(options, list | tuple):
        return tuple(options)
    raise ArgumentError(f"options is a list of loader options such as [selectinload(User.books)], not {options!r}")


def execution_options(how: Mapping[str, Any], known: type[Any]) -> Options:
    """Return the execution options in *how*, all of whose arguments have to be known."""
    unknown = [name for name in how if name not in known.__annotations__]
    if unknown:
        listed = ", ".join(f"{name!r}{near(name, list(known.__annotations__))}" for name in unknown)
        raise ArgumentError(f"unknown argument {listed}")
    options: Options | None = how.get("execution_options")
    return checked_options(options) if options else {}


def checked(statement: object) -> ClauseElement:
    """Return *statement* if it can be executed."""
    if isinstance(statement, str):
        shown = statement if len(statement) <= _LONGEST else f"{statement[:_LONGEST]}..."
        raise ArgumentError(f"SQL in a str has to be marked as such: text({shown!r}), imported from sqlalchemy")
    if isinstance(statement, ClauseElement) and core.is_executable(statement):
        return statement
    raise ArgumentError(
        f"{statement!r} is not a statement; pass select(), insert(), update(), delete(), text() or DDL of sqlalchemy"
    )
