"""In which of several databases are things that have more than one place? What a session's shards answer.

Such a place is known by its identity token, which is part of the identity keys of the objects in it. Whoever decides
is handed to the context; sessions whose classes have one place each have nobody to ask.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiosession.mapping.mapper import AnyMapper
from aiosession.transaction.bind import Bind


class Placement(Protocol):
    """Says where things are, and where they go."""

    def bind(self, token: object, /) -> Bind:
        """Return the engine or connection of a place, or raise `ArgumentError` naming those there are."""
        ...

    def token(self, bind: Bind, /) -> object:
        """Return the place whose engine or connection this is, or raise `ArgumentError`."""
        ...

    async def for_new(self, mapper: AnyMapper, instance: object, /) -> object:
        """Return the place where a new object's row goes."""
        ...

    async def for_key(
        self, mapper: AnyMapper, primary_key: tuple[object, ...], said: Mapping[str, Any], /
    ) -> Sequence[object]:
        """Return the places to look for a primary key in, in order; *said* is what the call was given besides it."""
        ...

    async def for_statement(
        self, statement: Any, parameters: Any, options: Mapping[str, Any], entities: tuple[type[Any], ...], /
    ) -> Sequence[object]:
        """Return the places that a statement about *entities* concerns."""
        ...
