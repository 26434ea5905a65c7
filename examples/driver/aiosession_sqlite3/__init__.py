"""SQLite for aiosession, over the standard library's sqlite3: ``create_async_engine("sqlite+threads:///shop.db")``."""

from aiosession_sqlite3.driver import ThreadsDriver

__all__ = ["ThreadsDriver"]
