"""Work out how a relation joins: condition, direction, and which column gets its value from which.

From explicit ``primaryjoin``, ``foreign_keys``, ``remote_side``, ``foreign()`` and ``remote()`` where given, from the
foreign keys of the tables where not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BinaryExpression, Column, ColumnElement, Table, and_
from sqlalchemy import exc as core_exc
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BooleanClauseList

from aiosession.errors import MappingError
from aiosession.mapping.foreign_keys import ForeignKeyPath, paths_between, paths_from, unresolved
from aiosession.mapping.mapper import ColumnPairs
from aiosession.mapping.relationships import Direction
from aiosession.mapping.sides import columns_in, is_foreign, is_remote, marked, plain, replace_columns

ColumnSet = frozenset[Column[Any]]


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """What is known about a relation before its join is worked out."""

    parent: Table
    target: Table
    target_key: tuple[Column[Any], ...]
    secondary: Table | None
    primaryjoin: ColumnElement[bool] | None
    secondaryjoin: ColumnElement[bool] | None
    foreign_keys: ColumnSet | None
    remote_side: ColumnSet | None
    viewonly: bool


@dataclass(frozen=True, slots=True)
class Join:
    """How a relation joins; see the fields of the same names of ``Relationship``."""

    direction: Direction
    primaryjoin: ColumnElement[bool]
    secondaryjoin: ColumnElement[bool] | None
    synchronize_pairs: ColumnPairs
    secondary_synchronize_pairs: ColumnPairs
    local_remote_pairs: ColumnPairs
    remote_side: ColumnSet
    local_columns: ColumnSet
    get_columns: tuple[Column[Any], ...]


def work_out(request: JoinRequest) -> Join:
    """Return how the relation joins; a MappingError says what is missing."""
    return _direct(request) if request.secondary is None else _through(request, request.secondary)


# Without a secondary table --------------------------------------------------------------------------------------------


def _direct(request: JoinRequest) -> Join:
    condition = _from_foreign_keys(request) if request.primaryjoin is None else _explicit(request, request.primaryjoin)
    return _join_of(request, condition)


def work_out_reverse(request: JoinRequest, primaryjoin: ColumnElement[bool]) -> Join:
    """Return the join of a back-reference: *primaryjoin*, as worked out for the relation, seen from the other side."""
    return _join_of(
        request,
        replace_columns(
            primaryjoin, lambda column: marked(column, as_foreign=is_foreign(column), as_remote=not is_remote(column))
        ),
    )


def _join_of(request: JoinRequest, condition: ColumnElement[bool]) -> Join:
    equalities = tuple(_equalities(condition))
    crossing = tuple((a, b) if is_remote(b) else (b, a) for a, b in equalities if is_remote(a) != is_remote(b))
    synchronized = tuple(pair for pair in crossing if is_foreign(pair[0]) != is_foreign(pair[1]))
    direction = _direction(request, condition, synchronized)
    local_remote = _plain_pairs(crossing)
    return Join(
        direction=direction,
        primaryjoin=condition,
        secondaryjoin=None,
        synchronize_pairs=_plain_pairs((a, b) if is_foreign(b) else (b, a) for a, b in synchronized),
        secondary_synchronize_pairs=(),
        local_remote_pairs=local_remote,
        remote_side=frozenset(plain(column) for column in columns_in(condition) if is_remote(column)),
        local_columns=frozenset(plain(column) for column in columns_in(condition) if not is_remote(column)),
        get_columns=_get_columns(request, condition, local_remote) if direction is Direction.MANY_TO_ONE else (),
    )


def _from_foreign_keys(request: JoinRequest) -> ColumnElement[bool]:
    found = paths_between(request.parent, request.target, request.foreign_keys)
    path = _only(found, request, "foreign_keys", (request.parent, request.target))
    referring_is_remote = _referring_is_remote(path, request)
    return and_(
        *(
            marked(referred, as_foreign=False, as_remote=not referring_is_remote)
            == marked(referring, as_foreign=True, as_remote=referring_is_remote)
            for referred, referring in path.pairs
        )
    )


def _referring_is_remote(path: ForeignKeyPath, request: JoinRequest) -> bool:
    if request.parent is not request.target:
        return path.pairs[0][1].table is request.target
    referred = {pair[0] for pair in path.pairs}
    referring = {pair[1] for pair in path.pairs}
    side = request.remote_side
    if side is not None and not side & (referred | referring):
        raise MappingError(
            f"remote_side names none of the columns that join {path}; say the referred column for many-to-one, the "
            f"foreign key for one-to-many"
        )
    return side is None or not side & (referred - referring)


def _only(
    found: tuple[ForeignKeyPath, ...], request: JoinRequest, option: str, tables: tuple[Table, Table]
) -> ForeignKeyPath:
    if len(found) == 1:
        return found[0]
    first, second = (table.fullname for table in tables)
    if not found:
        raise MappingError(_no_path(first, second, request, tables))
    listing = "; ".join(str(path) for path in found)
    remedy = (
        f"say which one with foreign_keys=[{found[0].pairs[0][1].table.name}.{found[0].pairs[0][1].name}]"
        if option == "foreign_keys"
        else f"say {option}="
    )
    raise MappingError(f"tables {first!r} and {second!r} are joined by several foreign keys ({listing}); {remedy}")


def _no_path(first: str, second: str, request: JoinRequest, tables: tuple[Table, Table]) -> str:
    if request.foreign_keys is not None:
        return (
            f"none of the columns in foreign_keys= is a foreign key between tables {first!r} and {second!r}; name the "
            f"referring column, or say primaryjoin="
        )
    dangling = "".join(f"; {text}" for text in unresolved(*tables))
    return (
        f"there is no foreign key between tables {first!r} and {second!r}{dangling}; add a ForeignKey to a column of "
        f"one of them, or say primaryjoin= with foreign() around the referring column"
    )


def _explicit(request: JoinRequest, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    in_foreign = _foreign_test(request, condition)
    in_remote = _remote_test(request, condition, in_foreign)
    return replace_columns(
        condition, lambda column: marked(column, as_foreign=in_foreign(column), as_remote=in_remote(column))
    )


Test = Callable[[Column[Any]], bool]


def _foreign_test(request: JoinRequest, condition: ColumnElement[bool]) -> Test:
    if any(is_foreign(column) for column in columns_in(condition)):
        return is_foreign
    columns = request.foreign_keys
    if columns is None:
        columns = frozenset(_referring(condition))
    if not columns:
        raise MappingError(
            f"no column of the join condition {condition} is a foreign key; mark the referring column with foreign(), "
            f"or name it in foreign_keys="
        )
    return lambda column: plain(column) in columns


def _referring(condition: ColumnElement[bool]) -> Iterator[Column[Any]]:
    for a, b in _equalities(condition):
        first, second = plain(a), plain(b)
        if _references(first, second):
            yield first
        elif _references(second, first):
            yield second


def _references(referring: Column[Any], referred: Column[Any]) -> bool:
    try:
        return any(key.column is referred for key in referring.foreign_keys)
    except core_exc.NoReferenceError:
        return False


def _remote_test(request: JoinRequest, condition: ColumnElement[bool], in_foreign: Test) -> Test:
    target = None if request.parent is request.target else request.target
    if any(is_remote(column) for column in columns_in(condition)):
        return lambda column: is_remote(column) or plain(column).table is target
    if request.remote_side is not None:
        side = request.remote_side
        return lambda column: plain(column) in side or plain(column).table is target
    if target is None:
        return in_foreign
    return lambda column: plain(column).table is target


def _direction(request: JoinRequest, condition: ColumnElement[bool], pairs: ColumnPairs) -> Direction:
    if not pairs and not request.viewonly:
        raise MappingError(
            f"the join condition {condition} does not equate a foreign key with a column of the other side, so there "
            f"is nothing to write; check foreign() and remote(), or say viewonly=True"
        )
    decisive = [column for pair in pairs for column in pair] or list(columns_in(condition))
    sides = {is_remote(column) for column in decisive if is_foreign(column)}
    if len(sides) > 1:
        raise MappingError(
            f"the join condition {condition} has foreign keys on both sides; mark the one to be written with "
            f"foreign(), and the columns of the target with remote()"
        )
    return Direction.ONE_TO_MANY if True in sides else Direction.MANY_TO_ONE


def _get_columns(request: JoinRequest, condition: ColumnElement[bool], pairs: ColumnPairs) -> tuple[Column[Any], ...]:
    local = {remote: local for local, remote in pairs}
    conjuncts = condition.clauses if isinstance(condition, BooleanClauseList) else (condition,)
    is_conjunction = not isinstance(condition, BooleanClauseList) or condition.operator is operators.and_
    if not is_conjunction or len(conjuncts) != len(pairs) or set(local) != set(request.target_key):
        return ()
    return tuple(local[column] for column in request.target_key)


# Through a secondary table --------------------------------------------------------------------------------------------


def _through(request: JoinRequest, secondary: Table) -> Join:
    primary = _half(request, secondary, request.parent, "primaryjoin")
    other = _half(request, secondary, request.target, "secondaryjoin")
    pairs = _half_pairs(primary, secondary)
    other_pairs = _half_pairs(other, secondary)
    if not (pairs and other_pairs) and not request.viewonly:
        raise MappingError(
            f"the join conditions {primary} and {other} do not equate columns of table {secondary.fullname!r} with "
            f"columns of both sides; correct them, or say viewonly=True"
        )
    return Join(
        direction=Direction.MANY_TO_MANY,
        primaryjoin=primary,
        secondaryjoin=other,
        synchronize_pairs=pairs,
        secondary_synchronize_pairs=other_pairs,
        local_remote_pairs=pairs + other_pairs,
        remote_side=frozenset(column for pair in pairs + other_pairs for column in pair[1:]),
        local_columns=frozenset(pair[0] for pair in pairs),
        get_columns=(),
    )


def _half(request: JoinRequest, secondary: Table, side: Table, option: str) -> ColumnElement[bool]:
    condition = request.primaryjoin if option == "primaryjoin" else request.secondaryjoin
    if condition is None:
        found = paths_from(secondary, side, request.foreign_keys)
        path = _only(found, request, option, (secondary, side))
        condition = and_(*(referred == referring for referred, referring in path.pairs))

    def mark(column: Column[Any]) -> Column[Any]:
        in_secondary = plain(column).table is secondary
        return marked(column, as_foreign=in_secondary, as_remote=in_secondary)

    return replace_columns(condition, mark)


def _half_pairs(condition: ColumnElement[bool], secondary: Table) -> ColumnPairs:
    pairs = _plain_pairs(_equalities(condition))
    return tuple(
        (a, b) if b.table is secondary else (b, a) for a, b in pairs if (a.table is secondary) != (b.table is secondary)
    )


# Both -----------------------------------------------------------------------------------------------------------------


def _equalities(condition: ColumnElement[bool]) -> Iterator[tuple[Column[Any], Column[Any]]]:
    for element in visitors.iterate(condition):
        if isinstance(element, BinaryExpression) and element.operator is operators.eq:
            left, right = element.left, element.right
            if isinstance(left, Column) and isinstance(right, Column):
                yield left, right


def _plain_pairs(pairs: "Iterator[tuple[Column[Any], Column[Any]]] | ColumnPairs") -> ColumnPairs:
    return tuple((plain(a), plain(b)) for a, b in pairs)
