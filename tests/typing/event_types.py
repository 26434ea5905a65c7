"""What a user's editor infers about events; checked by mypy and pyright, never run."""

from collections.abc import Callable
from typing import Any, assert_type

from aiosession import AsyncSession, DeclarativeBase, Mapped, ORMExecuteState, Result, events, mapped_column, validates


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

    @validates("name")
    def check_name(self, key: str, value: str) -> str:
        return value


@events.listens_for(AsyncSession, "before_commit", once=True)
def count(session: AsyncSession) -> int:
    return len(session.new)


@events.listens_for(AsyncSession, "do_orm_execute")
async def answer(state: ORMExecuteState) -> Result[*tuple[Any, ...]]:
    result = await state.invoke_statement()
    assert_type(result, Result[*tuple[Any, ...]])
    return result.freeze()()


def decorated_functions_keep_their_types(session: AsyncSession, user: User) -> None:
    assert_type(count(session), int)
    assert_type(user.check_name("name", "Ann"), str)
    keep: Callable[[ORMExecuteState], Any] = answer
    events.listen(session, "do_orm_execute", keep)
    assert_type(events.contains(User.name, "set", print), bool)
