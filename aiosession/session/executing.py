"""Who may change or answer a statement? Handlers of ``do_orm_execute``, before it is executed."""

from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, Final, TypeAlias

from sqlalchemy import Delete, Insert, Select, Update

from aiosession import core
from aiosession.engine.execution import Parameters
from aiosession.engine.result import Result
from aiosession.engine.streaming import AsyncResult
from aiosession.errors import ArgumentError
from aiosession.loading.options import LoadOption
from aiosession.transaction.context import SessionContext

Execute: TypeAlias = Callable[[SessionContext, object, Parameters | None, Any], Awaitable[Any]]
"""Executes a statement with parameters in the way that was asked for."""


class ORMExecuteState:
    """A statement that a session is about to execute, as handlers of ``do_orm_execute`` see and change it."""

    def __init__(
        self,
        ctx: SessionContext,
        statement: object,
        parameters: Parameters | None,
        how: Mapping[str, Any],
        execute: Execute,
        handlers: tuple[Callable[..., object], ...],
    ) -> None:
        self.session: Final[Any] = ctx.workspace.owner
        self.statement: Any = statement
        """What is executed; assign another statement to have that executed."""
        self.parameters: Any = parameters
        self.execution_options: Mapping[str, Any] = dict(how.get("execution_options") or {})
        self.bind_arguments: dict[str, Any] = dict(how.get("bind_arguments") or {})
        self._ctx: Final = ctx
        self._how: Final = how
        self._execute: Final = execute
        self._handlers: Final = handlers

    @property
    def is_select(self) -> bool:
        """Whether it is a SELECT."""
        return isinstance(self.statement, Select)

    @property
    def is_insert(self) -> bool:
        """Whether it is an INSERT."""
        return isinstance(self.statement, Insert)

    @property
    def is_update(self) -> bool:
        """Whether it is an UPDATE."""
        return isinstance(self.statement, Update)

    @property
    def is_delete(self) -> bool:
        """Whether it is a DELETE."""
        return isinstance(self.statement, Delete)

    @property
    def is_executemany(self) -> bool:
        """Whether it is executed once for each of a list of parameters."""
        return isinstance(self.parameters, list)

    @property
    def is_orm_statement(self) -> bool:
        """Whether it is about mapped classes."""
        return core.mentions_entity(self.statement)

    @property
    def is_column_load(self) -> bool:
        """Whether it loads attributes of objects: never, those statements are not passed to handlers."""
        return False

    @property
    def is_relationship_load(self) -> bool:
        """Whether it loads a relation: never, those statements are not passed to handlers."""
        return False

    @property
    def user_defined_options(self) -> tuple[Any, ...]:
        """The options of the statement that are not loader options."""
        return tuple(each for each in core.with_options(self.statement) if not isinstance(each, LoadOption))

    def update_execution_options(self, **options: Any) -> None:
        """Change single execution options."""
        self.execution_options = {**self.execution_options, **options}

    async def invoke_statement(
        self,
        statement: object = None,
        params: Parameters | None = None,
        execution_options: Mapping[str, Any] | None = None,
        bind_arguments: Mapping[str, Any] | None = None,
    ) -> Result[*tuple[Any, ...]]:
        """Execute the statement now, or another one, and return its result; handlers still to be called are."""
        how: dict[str, Any] = dict(self._how)
        options = {**self.execution_options, **(execution_options or {})}
        binds = {**self.bind_arguments, **(bind_arguments or {})}
        how.update({"execution_options": options} if options else {}, **({"bind_arguments": binds} if binds else {}))
        chosen = self.statement if statement is None else statement
        parameters = self.parameters if params is None else params
        result: Result[*tuple[Any, ...]] = await run(self._ctx, chosen, parameters, how, self._execute, self._handlers)
        return result


async def run(
    ctx: SessionContext,
    statement: object,
    parameters: Parameters | None,
    how: Mapping[str, Any],
    execute: Execute,
    handlers: tuple[Callable[..., Any], ...] | None = None,
) -> Any:
    """Execute a statement, or return what a handler of ``do_orm_execute`` returns in its place."""
    if handlers is None:
        handlers = tuple(ctx.workspace.dispatch.hooks["do_orm_execute"])
    for number, handler in enumerate(handlers):
        state = ORMExecuteState(ctx, statement, parameters, how, execute, handlers[number + 1 :])
        answer = await _asked(ctx, handler, state)
        if answer is not None:
            return answer
        statement, parameters = state.statement, state.parameters
        if state.execution_options:
            how = {**how, "execution_options": state.execution_options}
        if state.bind_arguments:
            how = {**how, "bind_arguments": state.bind_arguments}
    return await execute(ctx, statement, parameters, how)


async def _asked(ctx: SessionContext, handler: Callable[..., Any], state: ORMExecuteState) -> object:
    with ctx.waiting_for_handlers("do_orm_execute"):
        answer = handler(state)
        if isawaitable(answer):
            answer = await answer
    if answer is not None and not isinstance(answer, Result | AsyncResult):
        raise ArgumentError(
            f"a handler of 'do_orm_execute' returns None, or the Result to use; this one returned {answer!r}"
        )
    return answer
