"""Whose data does a session work on? Schemas that stand in for those of the tables, on every engine that it uses."""

from typing import Final

from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.errors import InvalidRequestError
from aiosession.sql.schemas import SchemaMap, checked_schemas
from aiosession.transaction.bind import Bind


class Tenant:
    """The schemas of one session, and the engines that it uses with them."""

    __slots__ = ("_engines", "schemas")

    def __init__(self, schemas: SchemaMap) -> None:
        self.schemas: Final = checked_schemas(schemas)
        self._engines: Final[dict[AsyncEngine, AsyncEngine]] = {}

    def on(self, bind: Bind) -> Bind:
        """Return *bind* with these schemas: the same engine each time, for it stands for one transaction."""
        engine = bind if isinstance(bind, AsyncEngine) else bind.engine
        if engine.options.get("schema_translate_map") == self.schemas:
            return bind
        if isinstance(bind, AsyncConnection):
            raise InvalidRequestError(
                "this session works on a connection of yours, whose schemas are yours to say: "
                "`await connection.execution_options(schema_translate_map=...)`"
            )
        found = self._engines.get(bind)
        if found is None:
            found = self._engines[bind] = bind.execution_options(schema_translate_map=self.schemas)
        return found
