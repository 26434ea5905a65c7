"""Make objects of the rows of statements that are not plain queries: RETURNING of entities, ``from_statement()``."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import FromClause, Insert, Select
from sqlalchemy.sql.dml import UpdateBase

from aiosession import core
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.execution import AnyResult, OneRow, Parameters, prepare
from aiosession.engine.result import Result
from aiosession.engine.row import ResultShape
from aiosession.errors import ArgumentError
from aiosession.loading.attach import hydrate
from aiosession.loading.hydrate import EntityLoader, EntitySlots, LoadRun, Row, entity_loader
from aiosession.loading.options import EveryEntity, Load, UndeferGroup
from aiosession.loading.relations import follow
from aiosession.loading.shapes import EntityShape, RelationShape, directives_for, shape_of, without_joins
from aiosession.mapping.mapper import AnyMapper, ColumnAttribute, EntityRef
from aiosession.sql.purity import is_pure
from aiosession.sql.types import result_processor
from aiosession.state.settle import park
from aiosession.state.state import STALE_EPOCH
from aiosession.state.workspace import Workspace
from aiosession.transaction.context import SessionContext


def returns_entities(statement: object) -> bool:
    """Tell whether an INSERT, UPDATE or DELETE returns entities."""
    return isinstance(statement, UpdateBase) and any(
        isinstance(core.entity_of(element), EntityRef) and isinstance(element, FromClause)
        for element in core.returning_columns(statement)
    )


def written_mapper(statement: UpdateBase) -> AnyMapper | None:
    """Return the mapper of the class that *statement* writes; None for a mere table."""
    entity = core.entity_of(statement.table)
    return entity.mapper if isinstance(entity, EntityRef) else None


async def execute_from(
    context: SessionContext, statement: core.EntitiesFrom, parameters: OneRow | None, run: LoadRun
) -> AnyResult:
    """Execute ``select(Entity).from_statement(rows)``: columns are found by their names."""
    entity = _only_entity(statement.entities)
    options = [*core.with_options(statement.entities), *core.with_options(statement)]
    known = [option for option in options if isinstance(option, Load | EveryEntity | UndeferGroup)]
    shape = without_joins(shape_of(entity.mapper, directives_for(entity, known)), _never)
    engine, wire = await context.wire(
        mapper=entity.mapper, clause=statement.rows, pure=is_pure(statement.rows), token=run.token
    )
    compiled, extracted = engine.statements.compile(statement.rows)
    sql, values = compiled.bind(parameters, extracted)
    if compiled.columns:
        names: Sequence[str] = [column.name for column in compiled.columns]
        rows = await wire.fetch(sql, values)
    else:
        reply = await wire.run(sql, values)
        names, rows = reply.columns or (), reply.rows
    objects = hydrate(_loader_by_name(engine, shape, names), rows, run)
    await follow(context, run)
    key = entity.mapper.name
    return Result(ResultShape([key], [(entity.entity_namespace,)], entities=[0]), list(zip(objects, strict=True)))


async def execute_returning(
    context: SessionContext, statement: UpdateBase, parameters: Parameters | None, run: LoadRun
) -> AnyResult:
    """Execute an INSERT, UPDATE or DELETE that returns entities: what it returns is newer than what is in memory."""
    shape, found = await returned_rows(context, statement, parameters, run)
    return Result(shape, found)


async def returned_rows(
    context: SessionContext, statement: UpdateBase, parameters: Parameters | None, run: LoadRun
) -> tuple[ResultShape, list[tuple[Any, ...]]]:
    """Execute a statement that returns entities and return its rows, objects in the places of entities."""
    run.reread = True
    engine, wire = await context.wire(mapper=written_mapper(statement), clause=statement, pure=False, token=run.token)
    call = prepare(engine.statements, statement, parameters)
    if call.rows is None:
        rows = await wire.fetch(call.sql, call.values)
    else:
        rows = [row for reply in await wire.fetch_each(call.sql, call.rows) for row in reply]
    if isinstance(statement, Insert) or not isinstance(core.entity_of(statement.table), EntityRef):
        note_write(context.workspace, statement)
    processors = [column.processor for column in call.compiled.columns]
    return rows_with_objects(core.returning_columns(statement), processors, rows, run)


def note_write(workspace: Workspace, statement: UpdateBase) -> None:
    """Mark the objects stale whose rows *statement* may have changed past the session; a plain INSERT changes none."""
    if type(statement) is Insert:
        return
    plain = core.deannotate(statement.table)
    for state in workspace.identity_map.live_states():
        if state.mapper.table is plain:
            state.epoch = STALE_EPOCH
            if workspace.parks_stale:
                park(state, None)


def _never(_relation: RelationShape) -> bool:
    return False


def _only_entity(statement: Select[Any]) -> EntityRef:
    elements = core.raw_columns(statement)
    entity = core.entity_of(elements[0])
    if len(elements) != 1 or not isinstance(entity, EntityRef) or not isinstance(elements[0], FromClause):
        raise ArgumentError("from_statement() works for select() of one mapped class: select(User).from_statement(...)")
    return entity


def _loader_by_name(engine: AsyncEngine, shape: EntityShape, names: Sequence[str]) -> EntityLoader:
    """Return the loader for rows whose columns are called *names*; attributes without a column stay unloaded."""
    places = {name: place for place, name in enumerate(names)}
    found: dict[int, ColumnAttribute] = {}
    for attribute in (*shape.mapper.column_attributes.values(), *shape.mapper.expression_attributes.values()):
        place = places.get(attribute.column.name, places.get(attribute.key))
        if place is not None:
            found[place] = attribute
        elif attribute.is_primary_key:
            raise ArgumentError(
                f"the rows have no column {attribute.column.name!r}, which is in the primary key of "
                f"{shape.mapper.name}; they have: {', '.join(map(repr, names)) or 'none'}"
            )
    narrowed = EntityShape(shape.mapper, tuple(found.values()), (), shape.following)
    types = {place: attribute.element.type for place, attribute in found.items()}
    processors = [
        result_processor(types[place], engine.dialect) if place in types else None for place in range(len(names))
    ]
    return entity_loader(EntitySlots(narrowed, tuple(found)), processors)


def _loader_of_table(mapper: AnyMapper, first: int, processors: Sequence[Any]) -> EntityLoader:
    """Return the loader for rows that have all columns of a mapped table in order, from position *first* on."""
    attributes = [mapper.by_column.get(column) for column in mapper.table.columns]
    found = {first + place: attribute for place, attribute in enumerate(attributes) if attribute is not None}
    return entity_loader(EntitySlots(EntityShape(mapper, tuple(found.values())), tuple(found)), processors)


def rows_with_objects(
    elements: Sequence[Any], processors: Sequence[Any], rows: Sequence[Row], run: LoadRun
) -> tuple[ResultShape, list[tuple[Any, ...]]]:
    """Return rows of RETURNING with objects in the places of entities."""
    keys: list[str] = []
    objects: list[tuple[object, ...]] = []
    columns: list[Sequence[Any]] = []
    entities: list[int] = []
    place = 0
    for element in elements:
        entity = core.entity_of(element)
        selected = core.expressions([element])
        if isinstance(entity, EntityRef) and isinstance(element, FromClause):
            entities.append(len(keys))
            keys.append(entity.mapper.name)
            objects.append((entity.entity_namespace,))
            columns.append(hydrate(_loader_of_table(entity.mapper, place, processors), rows, run))
        else:
            for offset, column in enumerate(selected):
                process = processors[place + offset]
                keys.append(str(core.proxy_key(column) or getattr(column, "name", "")))
                objects.append((column,))
                values = [row[place + offset] for row in rows]
                columns.append(values if process is None else list(map(process, values)))
        place += len(selected)
    return ResultShape(keys, objects, entities=entities), list(zip(*columns, strict=True))
