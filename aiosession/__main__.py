"""Commands for the shell: ``python -m aiosession doctor URL…``, ``python -m aiosession recover URL…``."""

import sys

from aiosession.command import run

if __name__ == "__main__":
    sys.exit(run())
