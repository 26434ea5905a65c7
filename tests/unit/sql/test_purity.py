"""Which statements need a transaction around them."""

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    MetaData,
    Sequence,
    String,
    Table,
    and_,
    bindparam,
    case,
    cast,
    column,
    delete,
    exists,
    extract,
    func,
    insert,
    lateral,
    literal_column,
    select,
    text,
    true,
    union,
    update,
    values,
)
from sqlalchemy.sql.elements import ClauseElement, ColumnElement

from aiosession.sql.purity import PURE_FUNCTIONS, is_pure

metadata = MetaData()
author = Table("author", metadata, Column("id", Integer, primary_key=True), Column("name", String))
book = Table("book", metadata, Column("id", Integer, primary_key=True), Column("author_id", ForeignKey("author.id")))


class CustomElement(ColumnElement[Any]):
    """Something that a user compiles to who knows what."""

    inherit_cache = True


PURE = {
    "table": select(author),
    "criteria": select(author).where(author.c.id == bindparam("id"), author.c.name.like("a%")),
    "aggregate": select(func.count()).select_from(author),
    "function alone": func.count(),
    "join": select(author).join(book),
    "subquery": select(author).where(author.c.id.in_(select(book.c.author_id))),
    "exists": select(author).where(exists().where(book.c.author_id == author.c.id)),
    "union": union(select(author.c.id), select(book.c.id)),
    "cte": select(select(author).cte()),
    "window": select(func.row_number().over(order_by=author.c.id)),
    "filter": select(func.count(author.c.id).filter(author.c.id > 1)),
    "within group": select(func.percentile_cont(0.5).within_group(author.c.id)),
    "case": select(case((author.c.id > 1, "a"), else_="b")),
    "cast": select(cast(author.c.id, String)),
    "extract": select(extract("year", func.now())),
    "order and limit": select(author).order_by(func.lower(author.c.name)).limit(3).offset(2),
    "group": select(author.c.name).group_by(author.c.name).having(func.max(author.c.id) > 1),
    "table function": select(func.generate_series(1, 3).table_valued("n")),
    "values": values(column("a", Integer)).data([(1,)]),
    "literal": select(literal_column("1")),
    "quoted literal": select(literal_column("'nextval'")),
    "lateral": select(author, lateral(select(book).where(book.c.author_id == author.c.id))),
    "upper-case name": select(func.LOWER(author.c.name)),
}

IMPURE = {
    "insert": insert(author),
    "update": update(author),
    "delete": delete(author),
    "text": text("SELECT 1"),
    "text with columns": text("SELECT 1").columns(column("a")),
    "row lock": select(author).with_for_update(),
    "shared row lock": select(author).with_for_update(read=True),
    "row lock in a subquery": select(select(author).with_for_update().subquery()),
    "row lock in a union": union(select(author), select(author).with_for_update()),
    "unknown function": select(func.send_invoice(author.c.id)),
    "advisory lock": select(func.pg_advisory_xact_lock(1)),
    "nextval": select(func.nextval("s")),
    "set_config": select(func.set_config("a", "b", True)),
    "sequence": select(Sequence("s").next_value()),
    "function of a package": select(func.audit.lower(author.c.name)),
    "function in WHERE": select(author).where(func.touch(author.c.id)),
    "function in ON": select(author).join(book, and_(func.touch(book.c.id), true())),
    "function in ORDER BY": select(author).order_by(func.touch(author.c.id)),
    "function in HAVING": select(author.c.id).group_by(author.c.id).having(func.touch() > 1),
    "function in CASE": select(case((author.c.id > 1, func.touch()), else_=1)),
    "function in a cast": select(cast(func.touch(), Integer)),
    "function in a joined subquery": select(author).join(select(func.touch().label("t")).subquery(), true()),
    "unknown table function": select(func.touch_all().table_valued("n")),
    "writing CTE": select(insert(author).values(name="a").returning(author.c.id).cte()),
    "text in WHERE": select(author).where(text("id = nextval('s')")),
    "calling literal column": select(literal_column("nextval('s')")),
    "element of a user": select(CustomElement()),
}


@pytest.mark.parametrize("statement", PURE.values(), ids=PURE.keys())
def test_plain_reads_are_pure(statement: ClauseElement) -> None:
    assert is_pure(statement)


@pytest.mark.parametrize("statement", IMPURE.values(), ids=IMPURE.keys())
def test_what_may_write_or_lock_is_not_pure(statement: ClauseElement) -> None:
    assert not is_pure(statement)


@pytest.mark.parametrize(
    "name",
    ["nextval", "setval", "currval", "lo_unlink", "dblink_exec", "pg_notify", "pg_terminate_backend", "pg_sleep"],
)
def test_functions_with_effects_are_not_listed_as_pure(name: str) -> None:
    assert name not in PURE_FUNCTIONS
