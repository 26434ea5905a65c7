"""The same sessions on PostgreSQL through psycopg."""

from typing import ClassVar

from benchmarks.contenders.aiosession_session import AiosessionSession
from benchmarks.contenders.sqlalchemy_session import SqlalchemySession

_DATABASES = frozenset({"psycopg"})
_DRIVERS = {"postgresql://": "postgresql+psycopg://"}


class AiosessionOnPsycopg(AiosessionSession):
    name: ClassVar[str] = "aiosession"
    databases: ClassVar[frozenset[str]] = _DATABASES
    drivers: ClassVar[dict[str, str]] = _DRIVERS


class SqlalchemyOnPsycopg(SqlalchemySession):
    name: ClassVar[str] = "SQLAlchemy"
    databases: ClassVar[frozenset[str]] = _DATABASES
    drivers: ClassVar[dict[str, str]] = _DRIVERS
