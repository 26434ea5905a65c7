"""Higher layers import lower ones, never the other way round, and greenlets stay out."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def test_import_contracts_hold() -> None:
    done = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")

    assert done.returncode == 0, done.stdout + done.stderr


def test_neither_greenlet_nor_the_other_orm_is_ever_imported() -> None:
    program = (
        "import sys, aiosession, aiosession.testing.scripted\n"
        "import aiosession.drivers.asyncpg, aiosession.drivers.aiosqlite, aiosession.drivers.psycopg\n"
        "bad = [name for name in sys.modules if name.startswith(('greenlet', 'sqlalchemy.orm', 'sqlalchemy.ext'))]\n"
        "assert not bad, bad"
    )

    done = run(sys.executable, "-c", program)

    assert done.returncode == 0, done.stderr
