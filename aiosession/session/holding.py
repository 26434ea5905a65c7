"""What has every part of a session at hand? Its context, and where its statements go."""

from typing import Any

from aiosession.session.binds import BindTable
from aiosession.session.query import Query
from aiosession.transaction.context import SessionContext


class Holding:
    """The root of `AsyncSession` and its parts: holds what they work with."""

    __slots__ = ("__weakref__", "binds", "context", "query_class")

    context: SessionContext
    """What the layers below see of this session; not for applications."""
    binds: BindTable
    query_class: type[Query[Any]]
    """What ``query()`` makes."""
