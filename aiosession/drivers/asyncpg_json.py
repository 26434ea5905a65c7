"""How JSON travels through asyncpg.

Core's types serialize parameters to text, the codecs installed here only pass that text on; results are deserialized
by the codecs, in arrays too, and Core's types leave them alone.
"""

from collections.abc import Callable
from typing import Final

import asyncpg

_JSON_OID: Final = 114
_JSONB_OID: Final = 3802
_JSONB_VERSION: Final = b"\x01"


def install_codecs(connection: asyncpg.Connection, deserialize: Callable[[str], object]) -> None:
    """Have *connection* read JSON with *deserialize*; costs no query."""
    settings = connection.get_settings()
    settings.add_python_codec(
        _JSON_OID,
        "json",
        "pg_catalog",
        [],
        "scalar",
        str.encode,
        lambda data: deserialize(data.decode()),
        "binary",
    )
    settings.add_python_codec(
        _JSONB_OID,
        "jsonb",
        "pg_catalog",
        [],
        "scalar",
        lambda text: _JSONB_VERSION + text.encode(),
        lambda data: deserialize(data[1:].decode()),
        "binary",
    )
