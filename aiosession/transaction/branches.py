"""How prepared transactions are named: whose they are, what belongs together, and where it is decided.

A name is ``as1:<app>:<global id>:<number>``. The global id begins with the id of the database that holds the decision,
so that whoever finds a branch knows where to ask. The number tells the branches of one unit of work apart: databases
of one PostgreSQL cluster share the names of prepared transactions. 64 characters before the last colon are the most
that XA takes.
"""

import re
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from typing_extensions import override

from aiosession.errors import ArgumentError

OURS: Final = "as1:"
"""What the names of all branches begin with, whichever application's they are."""
_APP: Final = re.compile(r"[A-Za-z0-9_.-]{1,24}")
_NAME: Final = re.compile(r"as1:([A-Za-z0-9_.-]{1,24}):([0-9a-f]{32}):([0-9]{1,6})")
_ID_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class BranchName:
    """The name of one database's share of a unit of work."""

    app: str
    global_id: str
    number: int

    @property
    def decider(self) -> str:
        """The id of the database that holds the decision."""
        return self.global_id[:_ID_LENGTH]

    @override
    def __str__(self) -> str:
        return f"{prefix_of(self.app)}{self.global_id}:{self.number}"


def read_name(name: str) -> BranchName | None:
    """Return what *name* says; None if it is not one of ours."""
    found = _NAME.fullmatch(name)
    return None if found is None else BranchName(found[1], found[2], int(found[3]))


def prefix_of(app: str) -> str:
    """Return what the names of all branches of an application begin with."""
    return f"{OURS}{app}:"


def new_global_id(decider: str) -> str:
    """Return a name for a unit of work that is decided in the database with the id *decider*."""
    return decider + token_hex(12)


def new_database_id() -> str:
    """Return an id for a database that has none yet."""
    return token_hex(_ID_LENGTH // 2)


def checked_app(app: object) -> str:
    """Return *app* if it can be part of a name."""
    if not isinstance(app, str) or _APP.fullmatch(app) is None:
        raise ArgumentError(
            f"{app!r} is no name for an application in two-phase commit: use letters, digits and . _ - in it, 24 at "
            f"most; it is part of the name of every prepared transaction"
        )
    return app
