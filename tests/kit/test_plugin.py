"""The fixtures that come with the package, as test suites of applications use them."""

import pytest

MODEL = """
    from aiosession import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        pass

    class Author(Base):
        __tablename__ = "author"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(unique=True)
"""
CONFTEST = """
    import pytest
    from model import Base

    @pytest.fixture(scope="session")
    def aiosession_metadata():
        return Base.metadata
"""
TESTS = """
    import pytest
    from sqlalchemy import select
    from aiosession.testing.assertions import assert_statements
    from model import Author

    {mark}

    @pytest.mark.parametrize("turn", [1, 2])
    async def test_what_is_committed_is_gone_in_the_next_test(aiosession_session, turn):
        assert (await aiosession_session.scalars(select(Author))).all() == []
        aiosession_session.add(Author(name="Ann"))
        await aiosession_session.commit()
        await aiosession_session.rollback()
        assert (await aiosession_session.scalars(select(Author.name))).all() == ["Ann"]

    async def test_code_with_sessions_of_its_own_sees_the_same(aiosession_session, aiosession_sessions):
        async with aiosession_sessions.begin() as other:
            other.add(Author(name="Bob"))
        assert (await aiosession_session.scalars(select(Author.name))).all() == ["Bob"]

    async def test_statements_are_heard(aiosession_session, aiosession_statements):
        with assert_statements(aiosession_session, 1):
            await aiosession_session.scalars(select(Author))
        assert aiosession_statements.count == 1

    async def test_an_engine_alone(aiosession_engine):
        async with aiosession_engine.connect() as connection:
            assert (await connection.scalars(select(Author.name))).all() == []
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """Write the model and conftest of an application."""
    pytester.makeini("[pytest]\nfilterwarnings = error")
    pytester.makepyfile(model=MODEL, conftest=CONFTEST)
    return pytester


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    scope = [] if "-pno:asyncio" in arguments else ["-oasyncio_default_fixture_loop_scope=function"]
    return suite.runpytest_inprocess("-q", "-p", "no:randomly", *scope, *arguments)


@pytest.mark.parametrize(
    ("mark", "arguments"),
    [
        pytest.param("", ["-oasyncio_mode=auto"], id="pytest-asyncio, auto"),
        pytest.param("pytestmark = pytest.mark.asyncio", ["-oasyncio_mode=strict"], id="pytest-asyncio, strict"),
        pytest.param(
            "pytestmark = pytest.mark.asyncio(loop_scope='module')", [], id="pytest-asyncio, a loop for the module"
        ),
        pytest.param(
            "", ["-oasyncio_mode=auto", "-oasyncio_default_test_loop_scope=session"], id="pytest-asyncio, one loop"
        ),
        pytest.param(
            "pytestmark = pytest.mark.anyio\n\n    @pytest.fixture\n    def anyio_backend(): return 'asyncio'",
            ["-pno:asyncio"],
            id="anyio alone",
        ),
        pytest.param(
            "pytestmark = pytest.mark.anyio\n\n    @pytest.fixture\n    def anyio_backend(): return 'asyncio'",
            ["-oasyncio_mode=strict"],
            id="anyio beside pytest-asyncio",
        ),
    ],
)
def test_each_test_has_a_transaction_of_its_own(suite: pytest.Pytester, mark: str, arguments: list[str]) -> None:
    suite.makepyfile(TESTS.format(mark=mark))

    run(suite, *arguments).assert_outcomes(passed=5)


@pytest.mark.parametrize(
    "server",
    [
        pytest.param("postgresql", marks=pytest.mark.postgres),
        pytest.param("mariadb", marks=pytest.mark.mariadb),
    ],
)
def test_a_private_server_is_started_for_the_run(suite: pytest.Pytester, server: str) -> None:
    suite.makepyfile(
        TESTS.format(mark=""),
        test_kind=f"def test_kind(aiosession_engine):\n    assert aiosession_engine.name == {server!r}",
    )

    run(suite, "-oasyncio_mode=auto", f"--aiosession-url={server}").assert_outcomes(passed=6)


def test_the_applications_own_sessionmaker_is_led_into_the_transaction(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        app="""
            from aiosession import async_sessionmaker, create_async_engine
            from model import Author

            engine = create_async_engine("sqlite+aiosqlite:///app.db")
            Session = async_sessionmaker(engine)

            async def register(name):
                async with Session.begin() as session:
                    session.add(Author(name=name))
        """,
        test_app="""
            import pytest
            from sqlalchemy import select
            import app
            from model import Author

            @pytest.fixture(scope="session")
            def aiosession_url():
                return "sqlite+aiosqlite:///app.db"

            @pytest.fixture
            def aiosession_maker(aiosession_schema):
                return app.Session

            @pytest.mark.parametrize("turn", [1, 2])
            async def test_registering(aiosession_session, turn):
                await app.register("Ann")
                assert (await aiosession_session.scalars(select(Author.name))).all() == ["Ann"]
        """,
    )

    run(suite, "-oasyncio_mode=auto").assert_outcomes(passed=2)


def test_mistakes_are_told_with_what_to_do(suite: pytest.Pytester) -> None:
    suite.makepyfile(conftest="", test_wrong="async def test_wrong(aiosession_session):\n    pass")

    result = run(suite, "-oasyncio_mode=auto")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*aiosession_metadata(): return Base.metadata*"])


def test_a_synchronous_test_without_a_plugin_is_told_what_it_lacks(suite: pytest.Pytester) -> None:
    suite.makepyfile("def test_wrong(aiosession_session):\n    pass")

    result = run(suite, "-pno:asyncio")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*install pytest-asyncio, or mark the test with @pytest.mark.anyio*"])


def test_a_connection_that_is_kept_makes_its_test_fail(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        kept = []

        async def test_wrong(aiosession_engine):
            kept.append(await aiosession_engine.connect())
        """
    )

    result = run(suite, "-oasyncio_mode=auto")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*connections were not given back to the pool: task *"])


def test_an_engine_on_the_loop_of_another_test_says_what_to_do(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import pytest
        from sqlalchemy import text
        from aiosession import create_async_engine

        engine = create_async_engine("sqlite://")

        @pytest.mark.parametrize("turn", [1, 2])
        async def test_wrong(turn):
            async with engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        """
    )

    result = run(suite, "-oasyncio_mode=auto")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*one engine per event loop*loop_scope*"])
