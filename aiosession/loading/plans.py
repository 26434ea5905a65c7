"""Compile what is sent to load entities by keys.

A plan is compiled once per engine, relation or mapper and shape, and found again without building SQL: the rows of many
keys come with one statement, whatever the number of keys.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import BinaryExpression, BooleanClauseList, Column, ColumnElement, FromClause, Select, bindparam, select
from sqlalchemy.sql import operators

from aiosession import core
from aiosession.engine.engine import AsyncEngine
from aiosession.loading.hydrate import EntityLoader, Processor, Row, entity_loader
from aiosession.loading.keys import Key, KeyFilter, key_filter
from aiosession.loading.selecting import Selection, anonymous_alias
from aiosession.loading.shapes import EntityShape, RelationShape
from aiosession.mapping.joins import join_conditions
from aiosession.mapping.mapper import AnyMapper, ColumnPairs, EntityRef
from aiosession.sql.cache import StatementCache
from aiosession.sql.compiled import CompiledStatement, describe
from aiosession.transaction.context import SessionContext

_MOST_PLANS: Final = 1000


@dataclass(frozen=True, slots=True)
class KeyedPlan:
    """A compiled SELECT of one entity for many keys."""

    compiled: CompiledStatement
    filter: KeyFilter
    loader: EntityLoader
    key_positions: tuple[int, ...]
    key_processors: tuple[Processor | None, ...]

    def keys_of(self, rows: Iterable[Row]) -> list[object]:
        """Return the key of each row: a tuple, or the value itself if it has one column."""
        if len(self.key_positions) == 1:
            (place,), (process,) = self.key_positions, self.key_processors
            return [row[place] for row in rows] if process is None else [process(row[place]) for row in rows]
        columns = list(zip(self.key_positions, self.key_processors, strict=True))
        return [
            tuple([row[place] if process is None else process(row[place]) for place, process in columns])
            for row in rows
        ]


@dataclass(frozen=True, slots=True)
class SinglePlan:
    """A compiled SELECT of one entity for one primary key, whose values are called ``pk_0``, ``pk_1`` and so on."""

    compiled: CompiledStatement
    loader: EntityLoader
    takes_key: bool
    """The values of the key are the parameters, as they are."""

    def bind(self, primary_key: Key) -> tuple[str, tuple[object, ...]]:
        """Return the text and parameters for one primary key."""
        if self.takes_key:
            return self.compiled.sql, primary_key
        return self.compiled.bind({f"pk_{index}": value for index, value in enumerate(primary_key)})


@dataclass(slots=True)
class EnginePlans:
    """The plans of one engine."""

    keyed: dict[Hashable, KeyedPlan] = field(default_factory=dict)
    single: dict[EntityShape, SinglePlan] = field(default_factory=dict)

    def remember(self, key: Hashable, plan: KeyedPlan) -> KeyedPlan:
        """Keep *plan*, and not too many others."""
        if len(self.keyed) >= _MOST_PLANS:
            self.keyed.clear()
        self.keyed[key] = plan
        return plan


_plans: Final["WeakKeyDictionary[StatementCache, EnginePlans]"] = WeakKeyDictionary()


def plans_of(engine: AsyncEngine) -> EnginePlans:
    """Return what was compiled for *engine* so far."""
    found = _plans.get(engine.statements)
    if found is None:
        found = _plans[engine.statements] = EnginePlans()
    return found


async def fetch_by_keys(
    context: SessionContext,
    mapper: AnyMapper,
    build: Callable[[AsyncEngine], KeyedPlan],
    keys: Sequence[Key],
    *,
    pure: bool = True,
    token: object | None = None,
) -> tuple[KeyedPlan, list[Row]]:
    """Return the rows of *keys* and the plan that they came by: one statement, unless the database limits its size."""
    engine, wire = await context.wire(mapper=mapper, pure=pure, token=token)
    plan = build(engine)
    rows: list[Row] = []
    for parameters in plan.filter.parameters(keys):
        sql, values = plan.compiled.bind(parameters)
        found = await wire.fetch(sql, values)
        rows = rows + found if rows else found
    return plan, rows


def compile_plain(engine: AsyncEngine, statement: Select[Any], *, pure: bool) -> CompiledStatement:
    """Compile a statement of our own, which nobody will look for by its structure."""
    compiled = core.compile_statement(engine.dialect, statement, schema_translate_map=engine.statements.schemas)
    hidden = engine.statements.hide_parameters
    return describe(compiled, engine.dialect, pure=pure, many=False, hide_parameters=hidden)


def plan_by_primary_key(engine: AsyncEngine, shape: EntityShape, lock: Mapping[str, Any] | None = None) -> KeyedPlan:
    """Return the plan that loads rows of an entity by primary key; *lock* are the arguments of with_for_update()."""
    plans = plans_of(engine)
    plan = plans.keyed.get(shape) if lock is None and not shape.has_criteria else None
    if plan is None:
        entity = shape.mapper.entity
        columns = [entity.column(attribute) for attribute in shape.mapper.primary_key_attributes]
        plan = _keyed_plan(engine, entity, shape, _Source(columns, lock=lock))
        if lock is None and not shape.has_criteria:
            plans.remember(shape, plan)
    return plan


def plan_of_one(engine: AsyncEngine, shape: EntityShape, lock: Mapping[str, Any] | None = None) -> SinglePlan:
    """Return the plan that loads one row of an entity by its primary key."""
    if lock is not None or shape.has_criteria:
        return _single_plan(engine, shape, lock)
    plans = plans_of(engine).single
    plan = plans.get(shape)
    if plan is None:
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        plan = plans[shape] = _single_plan(engine, shape, None)
    return plan


def plan_for_members(engine: AsyncEngine, relation: RelationShape) -> KeyedPlan:
    """Return the plan that loads the members of a relation by the keys of its owners."""
    plans = plans_of(engine)
    keeps = not relation.criteria and not relation.shape.has_criteria
    plan = plans.keyed.get(relation) if keeps else None
    if plan is None:
        entity = relation.target
        plan = _keyed_plan(engine, entity, relation.shape, _source_of(relation, entity))
        if keeps:
            plans.remember(relation, plan)
    return plan


def owner_columns(relation: RelationShape) -> tuple[str, ...]:
    """Return the attributes of an owner whose values are the keys of :func:`plan_for_members`."""
    relationship = relation.relationship
    by_column = relationship.parent.by_column
    pairs = _direct_pairs(relation)
    if pairs is None or not all(owner in by_column for owner, _ in pairs):
        return tuple(attribute.key for attribute in relationship.parent.primary_key_attributes)
    return tuple(by_column[owner].key for owner, _ in pairs)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the rows come from: the key columns, and what else the statement needs."""

    keys: Sequence[ColumnElement[Any]]
    froms: FromClause | None = None
    order_by: Sequence[ColumnElement[Any]] = ()
    criteria: Sequence[ColumnElement[bool]] = ()
    lock: Mapping[str, Any] | None = None


def _keyed_plan(engine: AsyncEngine, entity: EntityRef, shape: EntityShape, source: _Source) -> KeyedPlan:
    selection = Selection()
    slots = selection.add_entity(entity, shape)
    positions = tuple(_position(selection, column) for column in source.keys)
    filter_ = key_filter(source.keys, engine.dialect, engine.capabilities)
    statement: Select[*tuple[Any, ...]] = select(*selection.columns).where(filter_.criterion, *source.criteria)
    if source.froms is not None:
        statement = statement.select_from(source.froms)
    if source.lock is not None:
        statement = statement.with_for_update(**source.lock)
    statement = core.rewritten(statement, joins=selection.joins, order_by=[*source.order_by, *selection.order_by])
    compiled = compile_plain(engine, statement, pure=source.lock is None)
    processors = [column.processor for column in compiled.columns]
    return KeyedPlan(
        compiled,
        filter_,
        entity_loader(slots, processors),
        positions,
        tuple(processors[position] for position in positions),
    )


def _single_plan(engine: AsyncEngine, shape: EntityShape, lock: Mapping[str, Any] | None) -> SinglePlan:
    selection = Selection()
    entity = shape.mapper.entity
    slots = selection.add_entity(entity, shape)
    criteria = [
        entity.column(attribute) == bindparam(f"pk_{index}", type_=attribute.column.type)
        for index, attribute in enumerate(shape.mapper.primary_key_attributes)
    ]
    statement: Select[*tuple[Any, ...]] = select(*selection.columns).where(*criteria)
    if lock is not None:
        statement = statement.with_for_update(**lock)
    statement = core.rewritten(statement, joins=selection.joins, order_by=selection.order_by)
    compiled = compile_plain(engine, statement, pure=lock is None)
    names = [slot.key for slot in compiled.slots if slot.processor is None]
    takes_key = names == [f"pk_{index}" for index in range(len(criteria))] and len(compiled.slots) == len(criteria)
    return SinglePlan(compiled, entity_loader(slots, [column.processor for column in compiled.columns]), takes_key)


def _position(selection: Selection, column: ColumnElement[Any]) -> int:
    """Return where *column* is in the rows; it is added if nobody selects it."""
    for position, selected in enumerate(selection.columns):
        if selected is column or core.deannotate(selected) is core.deannotate(column):
            return position
    return selection.add_column(column)


def _source_of(relation: RelationShape, target: EntityRef) -> _Source:
    relationship = relation.relationship
    order_by = [target.adapt(clause) for clause in relationship.order_by]
    criteria = [target.adapt(criterion) for criterion in relation.criteria]
    pairs = _direct_pairs(relation)
    if pairs is not None and relationship.secondary is None:
        return _Source([target.column_of(member) for _, member in pairs], None, order_by, criteria)
    owner = anonymous_alias(relationship.parent.entity)
    if pairs is not None and relationship.secondary is not None:
        conditions = join_conditions(owner, relationship, target)
        froms = relationship.secondary.join(target.element, conditions.secondary)
        return _Source([member for _, member in pairs], froms, order_by, criteria)
    keys = [owner.column_of(column) for column in relationship.parent.primary_key]
    return _Source(keys, _whole_join(owner, relation, target), order_by, criteria)


def _whole_join(owner: EntityRef, relation: RelationShape, target: EntityRef) -> FromClause:
    relationship = relation.relationship
    secondary = None if relationship.secondary is None else relationship.secondary.alias()
    conditions = join_conditions(owner, relationship, target, secondary)
    if secondary is None:
        return owner.element.join(target.element, conditions.primary)
    return owner.element.join(secondary, conditions.primary).join(target.element, conditions.secondary)


def _direct_pairs(relation: RelationShape) -> ColumnPairs | None:
    """Return the (owner, member) columns if the members are those rows whose columns equal the owner's, else None."""
    relationship = relation.relationship
    if relationship.secondary is None:
        pairs = relationship.local_remote_pairs
    else:
        secondary = relationship.secondary
        pairs = tuple(pair for pair in relationship.synchronize_pairs if pair[1].table is secondary)
    if not pairs or _equalities(relationship.primaryjoin) != len(pairs):
        return None
    return pairs if all(owner in relationship.parent.by_column for owner, _ in pairs) else None


def _equalities(condition: ColumnElement[bool]) -> int:
    """Return how many columns *condition* compares for equality; -1 if it says anything else."""
    if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        counts = [_equalities(clause) for clause in condition.clauses]
        return -1 if -1 in counts else sum(counts)
    if not isinstance(condition, BinaryExpression) or condition.operator is not operators.eq:
        return -1
    sides = (condition.left, condition.right)
    return 1 if all(isinstance(side, Column) for side in sides) else -1
