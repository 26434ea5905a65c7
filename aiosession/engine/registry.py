"""One database per tenant: engines on demand, and not too many of them at a time."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

from aiosession.engine.engine import AsyncEngine
from aiosession.engine.replicated import ReplicatedEngine
from aiosession.errors import ArgumentError

K = TypeVar("K", bound=Hashable)


class EngineRegistry(Generic[K]):
    """Engines by key (a tenant, a customer), each made when it is first asked for.

    More than *limit* are kept only while they are in use: of those on which nothing runs, the one that was asked for
    longest ago is disposed of. Whoever still holds such an engine can go on using it, and the next one who asks for its
    key gets the same again.

    Args:
        make: Returns a new engine for a key; called once for each key whose engine nobody holds.
        limit: How many engines are kept that are not in use.

    """

    def __init__(self, make: Callable[[K], AsyncEngine], *, limit: int = 100) -> None:
        if not callable(make):
            raise ArgumentError(f"make is a function from a key to a new engine, not {make!r}")
        if type(limit) is not int or limit < 1:
            raise ArgumentError(f"limit is how many engines are kept, 1 or more, not {limit!r}")
        self._make: Final = make
        self._limit: Final = limit
        self._engines: Final[OrderedDict[K, AsyncEngine]] = OrderedDict()
        self._retired: Final[WeakValueDictionary[K, AsyncEngine]] = WeakValueDictionary()
        """Disposed of, but still held by somebody: they may be in use again."""

    def __len__(self) -> int:
        return len(self._engines)

    def __contains__(self, key: object) -> bool:
        return key in self._engines

    async def get(self, key: K) -> AsyncEngine:
        """Return the engine of *key*, the same one for all who ask; may dispose of another that is not in use."""
        engine = self._engines.get(key)
        if engine is None:
            engine = self._retired.get(key)
            if engine is None:
                engine = self._made(key)
            self._retired.pop(key, engine)
            self._engines[key] = engine
        self._engines.move_to_end(key)
        if len(self._engines) > self._limit or self._retired:
            await self._retire(key)
        return engine

    async def dispose(self) -> None:
        """Dispose of all engines; the registry can be used again."""
        engines = [*self._engines.values(), *self._retired.values()]
        self._engines.clear()
        for engine in engines:
            await engine.dispose()

    def _made(self, key: K) -> AsyncEngine:
        engine = self._make(key)
        if not isinstance(engine, AsyncEngine):
            raise ArgumentError(
                f"make has to return what create_async_engine() returns; for {key!r} it returned {engine!r}"
            )
        return engine

    async def _retire(self, asked: K) -> None:
        idle = [key for key, engine in self._engines.items() if key != asked and not _is_in_use(engine)]
        for key in idle[: max(0, len(self._engines) - self._limit)]:
            self._retired[key] = self._engines.pop(key)
        for engine in list(self._retired.values()):
            if _has_connections(engine) and not _is_in_use(engine):
                await engine.dispose()


def _pools(engine: AsyncEngine) -> list[AsyncEngine]:
    return [engine, *engine.replicas] if isinstance(engine, ReplicatedEngine) else [engine]


def _is_in_use(engine: AsyncEngine) -> bool:
    found = [each.pool.status() for each in _pools(engine)]
    return any(status.holders or status.waiting or status.open > status.idle for status in found)


def _has_connections(engine: AsyncEngine) -> bool:
    return any(each.pool.status().open for each in _pools(engine))
