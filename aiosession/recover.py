"""Settle what commits in two phases have left in doubt: ``python -m aiosession.recover URL…``.

Only to be run: who imports this module has it in the place of the function ``aiosession.recover``.
"""

import sys

from aiosession.command import main

if __name__ == "__main__":
    sys.exit(main())
