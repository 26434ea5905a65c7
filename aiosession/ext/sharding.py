"""Horizontal sharding: the rows of a class spread over several databases with the same tables.

A `ShardedSession` keeps each object on the shard that it comes from, sends new ones where *shard_chooser* says, and
asks the shards that *identity_chooser* and *execute_chooser* name, side by side.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from sqlalchemy import ClauseElement, Delete, Insert, Select, Update
from sqlalchemy.sql.base import ExecutableOption
from typing_extensions import override

from aiosession import ArgumentError, AsyncConnection, AsyncEngine, AsyncSession, Mapper, UnboundExecutionError

ShardId: TypeAlias = Any
"""What a shard is called: anything hashable but None, most often a str."""
Shard: TypeAlias = AsyncEngine | AsyncConnection
ShardChooser: TypeAlias = Callable[..., ShardId | Awaitable[ShardId]]
IdentityChooser: TypeAlias = Callable[..., Iterable[ShardId] | Awaitable[Iterable[ShardId]]]
ExecuteChooser: TypeAlias = Callable[["ShardedExecution"], Iterable[ShardId] | Awaitable[Iterable[ShardId]]]

__all__ = ["ShardOption", "ShardedExecution", "ShardedSession", "set_shard_id"]


@dataclass(frozen=True, slots=True)
class ShardedExecution:
    """A statement that is about to be executed, as *execute_chooser* sees it."""

    statement: Any
    parameters: Any
    """What was given with the statement: a mapping, a list of mappings, or None."""
    execution_options: Mapping[str, Any]
    entities: tuple[type[Any], ...]
    """The mapped classes that the statement names, in order; empty for statements about tables and for text."""

    @property
    def is_select(self) -> bool:
        """Whether it is a SELECT."""
        return isinstance(self.statement, Select)

    @property
    def is_update(self) -> bool:
        """Whether it is an UPDATE."""
        return isinstance(self.statement, Update)

    @property
    def is_delete(self) -> bool:
        """Whether it is a DELETE."""
        return isinstance(self.statement, Delete)

    @property
    def is_insert(self) -> bool:
        """Whether it is an INSERT: never, those name their shard themselves."""
        return isinstance(self.statement, Insert)


class ShardOption(ExecutableOption):
    """An option of a statement that names its shard; made by `set_shard_id`."""

    def __init__(self, shard_id: ShardId, *, propagate_to_loaders: bool) -> None:
        if shard_id is None:
            raise ArgumentError("set_shard_id() takes the name of a shard, not None")
        self.identity_token: Final = shard_id
        self.propagate_to_loaders: Final = propagate_to_loaders


def set_shard_id(shard_id: ShardId, propagate_to_loaders: bool = True) -> ShardOption:  # noqa: FBT001, FBT002 - the known signature
    """Return a statement option that sends it to one shard: ``select(User).options(set_shard_id("eu"))``.

    Relations of what it loads are loaded from the same shard, as those of all objects are from their own; so
    *propagate_to_loaders*, which is there because people know it, changes nothing.
    """
    return ShardOption(shard_id, propagate_to_loaders=propagate_to_loaders)


class ShardedSession(AsyncSession):
    """A session whose classes have their rows on several shards.

    An object stays on the shard that it was loaded from or inserted into; ``inspect(obj).identity_token`` tells which
    one that is. Choosers are functions or ``async def``, and may use anything but the session itself.

    Args:
        shards: Engines, or connections of them, by shard id; all of one kind of database.
        shard_chooser: ``(mapper, instance, clause=None) -> shard id``: where the row of a new object goes.
        identity_chooser: ``(mapper, primary_key, *, lazy_loaded_from, execution_options, bind_arguments) -> shard
            ids``: where ``get()`` and ``merge()`` look for a primary key; the first that has it wins.
        execute_chooser: ``(context) -> shard ids``: whom a statement asks; *context* is a `ShardedExecution`.
        options: What `AsyncSession` takes, except ``bind`` and ``binds``.

    """

    __slots__ = ("_shards",)

    def __init__(
        self,
        *,
        shards: Mapping[ShardId, Shard] | None = None,
        shard_chooser: ShardChooser | None = None,
        identity_chooser: IdentityChooser | None = None,
        execute_chooser: ExecuteChooser | None = None,
        **options: Any,
    ) -> None:
        for name in ("bind", "binds"):
            if options.pop(name, None):
                raise ArgumentError(f"a ShardedSession has no {name}: its shards are all its databases")
        choosers = {
            "shard_chooser": shard_chooser,
            "identity_chooser": identity_chooser,
            "execute_chooser": execute_chooser,
        }
        self._shards = _Shards(_checked_shards(shards), _checked_choosers(choosers))
        super().__init__(**options)
        self.context.placement = self._shards

    @property
    def shards(self) -> Mapping[ShardId, Shard]:
        """The engines, or connections, by shard id."""
        return MappingProxyType(self._shards.shards)

    def bind_shard(self, shard_id: ShardId, bind: Shard) -> None:
        """Add a shard, or give one another engine from now on."""
        self._shards = _Shards(_checked_shards({**self._shards.shards, shard_id: bind}), self._shards.choosers)
        self.context.placement = self._shards

    @override
    def get_bind(
        self,
        mapper: Mapper[Any] | type[Any] | None = None,
        clause: ClauseElement | None = None,
        shard_id: ShardId | None = None,
        **hints: Any,
    ) -> Shard:
        """Return the engine or connection of a shard, which has to be named."""
        if shard_id is None:
            raise UnboundExecutionError(
                f"a session with shards has to be told which one this is for: bind_arguments={{'shard_id': ...}}; it "
                f"has {self._shards.names}. bulk_save_objects(), bulk_insert_mappings(), bulk_update_mappings() and "
                f"bulk_copy() work on sessions with one database: use AsyncSession(engine of the shard)"
            )
        return self._shards.bind(shard_id)

    @override
    def _options_of_fork(self) -> dict[str, Any]:
        self._shards.check_shareable()
        return {**super()._options_of_fork(), "shards": self._shards.shards, **self._shards.choosers}


class _Shards:
    """The shards of a session and those who choose among them."""

    __slots__ = ("_names", "choosers", "shards")

    def __init__(self, shards: dict[ShardId, Shard], choosers: dict[str, Callable[..., Any]]) -> None:
        self.shards: Final = shards
        self.choosers: Final = choosers
        self._names: Final = {shard: name for name, shard in shards.items()}

    @property
    def names(self) -> str:
        """What the shards are called, for messages."""
        return ", ".join(map(repr, self.shards))

    def bind(self, token: object, /) -> Shard:
        """Return the engine or connection of a shard."""
        return self.shards[self._known(token, "a shard id")]

    def token(self, bind: Shard, /) -> object:
        """Return the shard whose engine or connection this is."""
        try:
            return self._names[bind]
        except KeyError:
            raise ArgumentError(
                f"bind_arguments name {bind!r}, which is no shard of this session; it has {self.names}"
            ) from None

    async def for_new(self, mapper: Mapper[Any], instance: object, /) -> object:
        """Return the shard where a new object's row goes."""
        chosen = await _awaited(self.choosers["shard_chooser"](mapper, instance))
        return self._known(chosen, f"what shard_chooser returned for a new {mapper.class_.__name__}")

    async def for_key(
        self, mapper: Mapper[Any], primary_key: tuple[object, ...], said: Mapping[str, Any], /
    ) -> Sequence[object]:
        """Return the shards to look for a primary key on."""
        chosen = await _awaited(
            self.choosers["identity_chooser"](
                mapper,
                primary_key,
                lazy_loaded_from=None,
                execution_options=said.get("execution_options") or {},
                bind_arguments=said.get("bind_arguments") or {},
            )
        )
        return self._all_known(chosen, f"what identity_chooser returned for {mapper.class_.__name__}{primary_key!r}")

    async def for_statement(
        self, statement: Any, parameters: Any, options: Mapping[str, Any], entities: tuple[type[Any], ...], /
    ) -> Sequence[object]:
        """Return the shards that a statement concerns."""
        execution = ShardedExecution(statement, parameters, options, entities)
        chosen = await _awaited(self.choosers["execute_chooser"](execution))
        return self._all_known(chosen, "what execute_chooser returned")

    def check_shareable(self) -> None:
        """Refuse to share connections between sessions."""
        for name, shard in self.shards.items():
            if isinstance(shard, AsyncConnection):
                raise ArgumentError(f"shard {name!r} is a connection, which two sessions cannot use; give its engine")

    def _known(self, token: object, what: str) -> ShardId:
        try:
            if token in self.shards:
                return token
        except TypeError:  # it is not hashable
            pass
        raise ArgumentError(f"{what} is {token!r}, which is no shard of this session; it has {self.names}")

    def _all_known(self, tokens: object, what: str) -> Sequence[object]:
        if isinstance(tokens, str | bytes) or not isinstance(tokens, Iterable):
            raise ArgumentError(f"{what} has to be a list of shard ids, not {tokens!r}")
        found = list(dict.fromkeys(self._known(token, f"one of {what}") for token in tokens))
        if not found:
            raise ArgumentError(f"{what} names no shard; this session has {self.names}")
        return found


async def _awaited(answer: Any) -> Any:
    return await answer if isawaitable(answer) else answer


def _checked_shards(shards: object) -> dict[ShardId, Shard]:
    if not isinstance(shards, Mapping) or not shards:
        raise ArgumentError(f"shards is a mapping from shard ids to engines, such as {{'eu': engine}}, not {shards!r}")
    for name, shard in shards.items():
        if name is None or not isinstance(shard, AsyncEngine | AsyncConnection):
            raise ArgumentError(
                f"shards have names and are what create_async_engine() returns, or connections of it; got "
                f"{name!r}: {shard!r}"
            )
    if len(set(shards.values())) < len(shards):
        raise ArgumentError("each shard is another engine: rows of the same one would come once for each of its names")
    kinds = {_dialect(shard) for shard in shards.values()}
    if len(kinds) > 1:
        raise ArgumentError(f"all shards are databases of one kind, not of {', '.join(sorted(kinds))}")
    return dict(shards)


def _dialect(shard: Shard) -> str:
    return (shard if isinstance(shard, AsyncEngine) else shard.engine).dialect.name


def _checked_choosers(choosers: Mapping[str, object]) -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for name, chooser in choosers.items():
        if not callable(chooser):
            raise ArgumentError(f"a ShardedSession needs {name}, a function; got {chooser!r}")
        found[name] = chooser
    return found
