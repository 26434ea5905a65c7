"""Evaluate criteria of SQL on objects in memory, as far as Python can tell what the database would say.

Pure. NULL is None, and logic has three values as in SQL. What is not in memory, may be out of date or was changed and
not yet written is `UNKNOWN`, as are values that Python compares otherwise than a database may.
What Python cannot do as every database does it (collations, division, functions, subqueries) is refused when the
criteria are compiled: `NotEvaluableError`.
"""

import enum
import math
import operator
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial, reduce
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    ARRAY,
    CHAR,
    JSON,
    NCHAR,
    BindParameter,
    BooleanClauseList,
    Column,
    ColumnElement,
    False_,
    Null,
    String,
    True_,
    TypeDecorator,
)
from sqlalchemy.dialects.postgresql import CITEXT
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, ClauseList, ExpressionClauseList, Grouping, UnaryExpression
from typing_extensions import override

from aiosession import core
from aiosession.mapping.mapper import AnyMapper, EntityRef
from aiosession.state.state import EntityState, is_stale


class NotEvaluableError(Exception):
    """Only the database can say what an expression comes to."""

    def __init__(self, clause: object) -> None:
        super().__init__(clause)
        self.clause: Final = clause

    @override
    def __str__(self) -> str:  # put into words only when somebody asks: that takes a compiler
        return str(self.clause)


class _Unknown:
    """The value of what is not in memory."""


UNKNOWN: Final = _Unknown()
Evaluate: TypeAlias = Callable[[EntityState], Any]

_COMPARE: Final[Mapping[Any, Callable[[Any, Any], Any]]] = {
    operators.eq: operator.eq,
    operators.ne: operator.ne,
    operators.lt: operator.lt,
    operators.le: operator.le,
    operators.gt: operator.gt,
    operators.ge: operator.ge,
}
_CALCULATE: Final[Mapping[Any, Callable[[Any, Any], Any]]] = {
    operators.add: operator.add,
    operators.sub: operator.sub,
    operators.mul: operator.mul,
    operators.concat_op: operator.add,
}
_ORDERING: Final = frozenset({operators.lt, operators.le, operators.gt, operators.ge})
_ORDERED: Final = (bool, int, float, Decimal, bytes, date, datetime, time, timedelta, uuid.UUID)
_LARGEST: Final = 2**63 - 1
_DOUBTFUL: Final = (ARRAY, CHAR, CITEXT, JSON, NCHAR, TypeDecorator)
"""Types whose values may be the same for the database where they are not for Python."""


def evaluator(
    expression: ColumnElement[Any] | None, mapper: AnyMapper, parameters: Mapping[str, Any] | None
) -> Evaluate:
    """Return a function from the state of an object of *mapper* to the value of *expression* (None: true)."""
    if expression is None:
        return lambda _state: True
    return _Compiler(mapper, parameters or {}).compile(expression)


class _Compiler:
    """Turns one expression into nested functions."""

    def __init__(self, mapper: AnyMapper, parameters: Mapping[str, Any]) -> None:
        self.mapper = mapper
        self.parameters = parameters

    def compile(self, clause: Any) -> Evaluate:
        """Return the function of *clause*."""
        for kind, make in _KINDS:
            if isinstance(clause, kind):
                return make(self, clause)
        raise NotEvaluableError(clause)

    def column(self, column: Any) -> Evaluate:
        """Return what reads an attribute."""
        entity = core.entity_of(column)
        plain = core.deannotate(column)
        attribute = self.mapper.by_column.get(plain)
        is_other = isinstance(entity, EntityRef) and (entity.mapper is not self.mapper or entity.is_alias)
        if attribute is None or is_other:
            raise NotEvaluableError(column)
        key = attribute.key
        if attribute.is_primary_key:
            place = [each.key for each in self.mapper.primary_key_attributes].index(key)
            return lambda state: _of_key(state, key, place)
        if _is_doubtful(plain):
            return lambda _state: UNKNOWN
        return lambda state: _of_attribute(state, key)

    def bound(self, parameter: BindParameter[Any]) -> Evaluate:
        """Return a constant."""
        given = self.parameters.get(parameter.key, UNKNOWN)
        value = parameter.effective_value if given is UNKNOWN else given
        return lambda _state: value

    def binary(self, clause: BinaryExpression[Any]) -> Evaluate:
        """Return a comparison or calculation."""
        made = clause.operator
        if any(clause.modifiers.values()):
            raise NotEvaluableError(clause)
        if made in _COMPARE or made in _CALCULATE:
            return _combined(made, self.compile(clause.left), self.compile(clause.right))
        left = self.compile(clause.left)
        if made in (operators.is_, operators.is_not):
            return _identical(left, self.compile(clause.right), negated=made is operators.is_not)
        if made in (operators.in_op, operators.not_in_op) and isinstance(clause.right, BindParameter):
            return _contained(left, self.bound(clause.right), negated=made is operators.not_in_op)
        if made in (operators.between_op, operators.not_between_op) and isinstance(clause.right, ExpressionClauseList):
            low, high = (self.compile(each) for each in clause.right.clauses)
            within = _every([_combined(operators.ge, left, low), _combined(operators.le, left, high)])
            return within if made is operators.between_op else _negated(within)
        raise NotEvaluableError(clause)

    def unary(self, clause: UnaryExpression[Any]) -> Evaluate:
        """Return a negation."""
        inner = self.compile(clause.element)
        if clause.operator in (operators.inv, operators.is_false):
            return _negated(inner)
        if clause.operator is operators.is_true:
            return inner
        if clause.operator is operators.neg:
            return lambda state: _minus(inner(state))
        raise NotEvaluableError(clause)

    def several(self, clause: BooleanClauseList) -> Evaluate:
        """Return AND or OR."""
        parts = [self.compile(each) for each in clause.clauses]
        return _every(parts) if clause.operator is operators.and_ else _some(parts)

    def chain(self, clause: ExpressionClauseList[Any]) -> Evaluate:
        """Return a calculation with several operands."""
        made = clause.operator
        if made not in _CALCULATE:
            raise NotEvaluableError(clause)
        return reduce(partial(_combined, made), [self.compile(each) for each in clause.clauses])

    def only(self, clause: ClauseList) -> Evaluate:
        """Return the only value of a list."""
        if len(clause.clauses) != 1:
            raise NotEvaluableError(clause)
        return self.compile(clause.clauses[0])


_KINDS: Final[Sequence[tuple[type[Any], Callable[[_Compiler, Any], Evaluate]]]] = (
    (BindParameter, _Compiler.bound),
    (BooleanClauseList, _Compiler.several),
    (ExpressionClauseList, _Compiler.chain),
    (BinaryExpression, _Compiler.binary),
    (UnaryExpression, _Compiler.unary),
    (Grouping, lambda compiler, clause: compiler.compile(clause.element)),
    (ClauseList, _Compiler.only),
    (Null, lambda _compiler, _clause: lambda _state: None),
    (True_, lambda _compiler, _clause: lambda _state: True),
    (False_, lambda _compiler, _clause: lambda _state: False),
    (Column, _Compiler.column),
)


def _of_key(state: EntityState, key: str, place: int) -> Any:
    if state.committed and key in state.committed:
        return UNKNOWN
    return UNKNOWN if state.key is None else state.key[1][place]


def _of_attribute(state: EntityState, key: str) -> Any:
    if is_stale(state, key) or (state.committed and key in state.committed):
        return UNKNOWN
    return state.values().get(key, UNKNOWN)


def _is_doubtful(column: Column[Any]) -> bool:
    kind = column.type
    return isinstance(kind, _DOUBTFUL) or (isinstance(kind, String) and kind.collation is not None)


def _minus(value: Any) -> Any:
    if value is None or value is UNKNOWN:
        return value
    return -value if type(value) is int else UNKNOWN


def _combined(made: Any, left: Evaluate, right: Evaluate) -> Evaluate:
    compute = _COMPARE.get(made) or _CALCULATE[made]

    def evaluate(state: EntityState) -> Any:
        first, second = left(state), right(state)
        if first is UNKNOWN or second is UNKNOWN:
            return UNKNOWN
        if first is None or second is None:
            return None
        if not _agrees(made, first, second):
            return UNKNOWN
        value = compute(first, second)
        return UNKNOWN if type(value) is int and abs(value) > _LARGEST else value

    return evaluate


def _agrees(made: Any, first: Any, second: Any) -> bool:
    """Whether Python and every database do the same with two values."""
    if made in _CALCULATE:
        # other numbers are rounded when they are stored, by each database in its own way
        kind = str if made is operators.concat_op else int
        return type(first) is kind and type(second) is kind
    return _comparable(first, second, orders=made in _ORDERING)


def _comparable(first: Any, second: Any, *, orders: bool) -> bool:
    if isinstance(first, str | enum.Enum) or isinstance(second, str | enum.Enum):
        # the order of texts depends on their collation, that of choices on how they are stored
        return type(first) is type(second) and not orders
    if isinstance(first, float | Decimal) or isinstance(second, float | Decimal):
        numbers = {type(first), type(second)}
        return (numbers <= {int, float} or numbers <= {int, Decimal}) and math.isfinite(first) and math.isfinite(second)
    if {type(first), type(second)} == {bool, int}:
        return True
    if isinstance(first, datetime | time) and type(first) is type(second):
        return first.utcoffset() == second.utcoffset()
    return type(first) is type(second) and type(first) in _ORDERED


def _identical(left: Evaluate, right: Evaluate, *, negated: bool) -> Evaluate:
    def evaluate(state: EntityState) -> Any:
        first, second = left(state), right(state)
        if first is UNKNOWN or second is UNKNOWN:
            return UNKNOWN
        if first is None or second is None:
            return (first is second) is not negated
        return (first == second) is not negated if _comparable(first, second, orders=False) else UNKNOWN

    return evaluate


def _contained(left: Evaluate, right: Evaluate, *, negated: bool) -> Evaluate:
    def evaluate(state: EntityState) -> Any:
        value, choices = left(state), right(state)
        if value is UNKNOWN or not isinstance(choices, list | tuple | set | frozenset):
            return UNKNOWN
        if not choices:
            return negated
        if value is None:
            return None
        others = [each for each in choices if each is not None]
        if any(_comparable(value, each, orders=False) and value == each for each in others):
            return not negated
        if not all(_comparable(value, each, orders=False) for each in others):
            return UNKNOWN
        return None if len(others) < len(choices) else negated

    return evaluate


def _negated(inner: Evaluate) -> Evaluate:
    def evaluate(state: EntityState) -> Any:
        value = inner(state)
        return value if value is None or value is UNKNOWN else not value

    return evaluate


def _every(parts: Sequence[Evaluate]) -> Evaluate:
    return _decided_by(parts, decisive=False)


def _some(parts: Sequence[Evaluate]) -> Evaluate:
    return _decided_by(parts, decisive=True)


def _decided_by(parts: Sequence[Evaluate], *, decisive: bool) -> Evaluate:
    """Join conditions in the three-valued logic of SQL: one part that is *decisive* settles it."""

    def evaluate(state: EntityState) -> Any:
        values = [part(state) for part in parts]
        if any(value is decisive for value in values):
            return decisive
        if any(value is UNKNOWN for value in values):
            return UNKNOWN
        if any(value is None for value in values):
            return None
        return any(values) if decisive else all(values)

    return evaluate
