"""The driver of another package: found by its entry point, conforming, and good enough for a session."""

import asyncio
import os
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, select, text

from aiosession import (
    AsyncEngine,
    AsyncSession,
    DeclarativeBase,
    Mapped,
    async_sessionmaker,
    create_async_engine,
    mapped_column,
    relationship,
    selectinload,
)
from aiosession.drivers.registry import GROUP
from aiosession.errors import ArgumentError, UniqueViolationError
from aiosession.testing.conformance import CASES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "examples" / "driver"


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    books: Mapped[list["Book"]] = relationship(back_populates="author", order_by="Book.id")


class Book(Base):
    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Make what an installation leaves in a folder of packages: the entry points that the package declares."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "packages" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    points = [f"{name} = {value}" for name, value in project["entry-points"][GROUP].items()]
    (folder / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *points, ""]))
    return folder.parent


@pytest.fixture
def known(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process find the package."""
    monkeypatch.syspath_prepend(str(PACKAGE))
    monkeypatch.syspath_prepend(str(installed))


@pytest.fixture
def unused_engine(known: None, tmp_path: Path) -> AsyncEngine:
    """Make an engine outside of the event loop: packages are looked for in files."""
    return create_async_engine(f"sqlite+threads:///{tmp_path}/books.db")


@pytest.fixture
async def threads(unused_engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    async with unused_engine.begin() as connection:
        await connection.create_all(Base.metadata)
    yield unused_engine
    holders = unused_engine.pool.status().holders
    await unused_engine.dispose()
    assert not holders


def test_the_packages_own_tests_pass(installed: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=PACKAGE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (installed, PACKAGE, ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert f"{len(CASES)} passed" in done.stdout


def test_a_url_finds_the_driver_by_its_entry_point(unused_engine: AsyncEngine) -> None:
    assert unused_engine.driver.name == "sqlite+threads"


@pytest.mark.parametrize("url", ["sqlite+threads://", "sqlite+threads://host/x.db", "sqlite+threads:///x.db?speed=9"])
def test_a_url_that_makes_no_sense_is_refused(known: None, url: str) -> None:
    with pytest.raises(ArgumentError, match="sqlite\\+threads"):
        create_async_engine(url)


async def test_a_session_writes_and_reads(threads: AsyncEngine) -> None:
    sessions = async_sessionmaker(threads)
    async with sessions.begin() as session:
        session.add(Author(name="Lem", books=[Book(title="Solaris"), Book(title="Eden")]))
    async with sessions() as session:
        author = (await session.scalars(select(Author).options(selectinload(Author.books)))).one()
        author.books[1].title = "The Invincible"
        await session.commit()

    async with sessions() as session:
        stream = await session.stream_scalars(select(Book.title).order_by(Book.id))
        assert [title async for title in stream] == ["Solaris", "The Invincible"]


async def test_a_failure_is_ours_and_undoes_everything(threads: AsyncEngine) -> None:
    async with AsyncSession(threads) as session:
        session.add(Author(name="Lem"))
        await session.commit()
        session.add_all([Author(name="Dick"), Author(name="Lem")])
        with pytest.raises(UniqueViolationError):
            await session.commit()
        await session.rollback()

        assert (await session.scalars(select(Author.name))).all() == ["Lem"]


async def test_sessions_of_many_tasks_do_not_get_into_each_others_way(threads: AsyncEngine) -> None:
    async def write(number: int) -> None:
        async with AsyncSession(threads) as session:
            session.add(Author(name=f"author {number}"))
            await session.commit()

    await asyncio.gather(*(write(number) for number in range(20)))

    async with AsyncSession(threads) as session:
        assert len((await session.scalars(select(Author))).all()) == 20


async def test_a_cancelled_statement_is_stopped_and_leaves_nothing_behind(threads: AsyncEngine) -> None:
    endless = text("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r")
    async with AsyncSession(threads) as session:
        session.add(Author(name="Lem"))
        await session.flush()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await session.execute(endless)
        await session.rollback()

        assert (await session.scalars(select(Author))).all() == []
