"""Work out what a statement over entities comes to on one engine.

Entities become columns, options become joins or statements to follow, and each entity gets its row loader. A plan is
made once per statement shape and engine.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ClauseElement, FromClause

from aiosession import core
from aiosession.engine.engine import AsyncEngine
from aiosession.engine.result import OneColumn
from aiosession.engine.row import ResultShape
from aiosession.errors import ArgumentError
from aiosession.loading.attach import hydrate
from aiosession.loading.criteria import limited
from aiosession.loading.expand import expand_joins
from aiosession.loading.hydrate import EntityLoader, EntitySlots, LoadRun, Processor, Row, entity_loader
from aiosession.loading.options import EveryEntity, Load, LoadOption, PlaceOption, UndeferGroup, shown
from aiosession.loading.selecting import Selection
from aiosession.loading.shapes import directives_for, is_contained, keeps_rows, shape_of, without_joins
from aiosession.mapping.expressions import RelationshipExpression
from aiosession.mapping.mapper import AnyMapper, EntityRef
from aiosession.sql.compiled import CompiledStatement, describe

Values: TypeAlias = Sequence[Any]
Column: TypeAlias = Callable[[Sequence[Row], LoadRun], Values]
"""Makes the values of one element of the result from the rows."""


@dataclass(frozen=True, slots=True)
class QueryPlan:
    """A SELECT that mentions entities, ready for one engine."""

    compiled: CompiledStatement
    shape: ResultShape
    columns: tuple[Column, ...]
    """Empty if no entity is selected: rows are values as they come."""
    collapses: bool
    """Whether an entity comes in several rows because of a joined collection, and is to appear once."""
    is_reusable: bool
    """Whether other statements of the same structure can use it: no values of this one are in its options."""
    locks_rows: bool

    def rows(self, rows: Sequence[Row], run: LoadRun) -> Sequence[Values]:
        """Return the rows of the result, objects in the places of entities."""
        if not self.columns:
            return self.compiled.process(rows)
        if rows and len(rows[0]) != len(self.compiled.columns):
            raise ArgumentError(
                f"a row has {len(rows[0])} columns where {len(self.compiled.columns)} were selected: a "
                f"literal_column() beside an entity has to stand for one column"
            )
        if self.collapses:
            objects = self.columns[0](rows, run)
            return OneColumn(list({id(entity): entity for entity in objects}.values()))
        if len(self.columns) == 1:
            return OneColumn(self.columns[0](rows, run))
        return list(zip(*[column(rows, run) for column in self.columns], strict=True))


def mapper_of_statement(statement: core.AnySelect) -> AnyMapper | None:
    """Return the mapper of the first entity that *statement* selects, which decides where it is sent."""
    sources: Iterable[Any] = (*core.raw_columns(statement), *core.from_objects(statement))
    for source in sources:
        entity = core.entity_of(source)
        if isinstance(entity, EntityRef):
            return entity.mapper
    return None


def plan_query(
    engine: AsyncEngine,
    statement: core.AnySelect,
    key: core.CacheKey | None,
    *,
    pure: bool,
    in_chunks: bool = False,
) -> QueryPlan:
    """Return the plan of *statement*; with *key*, of all statements that have the same cache key.

    With *in_chunks* the rows come a few at a time, so that the rows of one object must not be spread by joins.
    """
    expanded = expand_joins(statement)
    elements = core.raw_columns(statement)
    options = _options(statement, elements)
    selection = Selection()
    may_multiply = len(elements) == 1 and not in_chunks
    places = [_place(selection, element, expanded, options, may_multiply=may_multiply) for element in elements]
    rewritten = _rewritten(expanded, selection)
    compiler = core.compile_statement(
        engine.dialect, rewritten, key=key, schema_translate_map=engine.statements.schemas
    )
    compiled = describe(
        compiler, engine.dialect, pure=pure, many=False, hide_parameters=engine.statements.hide_parameters
    )
    _check_places(compiled, places)
    processors = [column.processor for column in compiled.columns]
    loaders = [entity_loader(place, processors) if isinstance(place, EntitySlots) else None for place in places]
    has_entities = any(loaders)
    return QueryPlan(
        compiled,
        _result_shape(compiled, elements, places),
        tuple(_columns(places, loaders, processors)) if has_entities else (),
        len(loaders) == 1 and loaders[0] is not None and loaders[0].multiplies_rows,
        not any(isinstance(place, EntitySlots) and place.shape.follows_criteria for place in places),
        core.for_update(statement) is not None,
    )


_Place: TypeAlias = EntitySlots | tuple[int, ...]


def _place(
    selection: Selection,
    element: ClauseElement,
    statement: core.AnySelect,
    options: Sequence[LoadOption],
    *,
    may_multiply: bool,
) -> _Place:
    """Add what *element* of the columns clause selects, and return where it will be."""
    entity = core.entity_of(element)
    if not isinstance(entity, EntityRef) or not isinstance(element, FromClause):
        return tuple(selection.add_column(column) for column in core.expressions([element]))
    shape = shape_of(entity.mapper, directives_for(entity, options))
    if shape.joined:
        is_plain = not core.is_grouped(statement) and core.for_update(statement) is None
        if not (is_plain and may_multiply and _is_alone(statement, entity)):
            shape = without_joins(shape, keeps_rows if is_plain else is_contained)
    return selection.add_entity(entity, limited(shape, core.criteria_options(statement)))


def _is_alone(statement: core.AnySelect, entity: EntityRef) -> bool:
    """Tell whether each row of *statement* is another row of *entity*, so that joins may multiply them."""
    if core.is_limited(statement):
        return False
    froms = statement.get_final_froms()
    return len(froms) == 1 and core.deannotate(froms[0]) is core.deannotate(entity.selectable)


def _options(statement: core.AnySelect, elements: Sequence[ClauseElement]) -> list[LoadOption]:
    """Return the loader options of *statement*; one about an entity that is not selected is an error."""
    entities = [entity for element in elements if isinstance(entity := core.entity_of(element), EntityRef)]
    options: list[LoadOption] = []
    for option in core.with_options(statement):
        if isinstance(option, core.CriteriaOption | PlaceOption):
            continue
        if isinstance(option, Load) and option.entity not in entities:
            selected = ", ".join(sorted({shown(entity) for entity in entities})) or "no entity"
            raise ArgumentError(
                f"an option is about {shown(option.entity)}, but the statement selects {selected}; options start at an "
                f"entity that is selected"
            )
        if not isinstance(option, Load | EveryEntity | UndeferGroup):
            raise ArgumentError(
                f"{option!r} is no loader option of aiosession; import selectinload() and the others from there"
            )
        options.append(option)
    return options


def _rewritten(statement: core.AnySelect, selection: Selection) -> core.AnySelect:
    if not selection.joins:
        return core.rewritten(statement, columns=selection.columns)
    memoized = [join for group in core.memoized_entities(statement) for join in core.setup_joins(group)]
    return core.rewritten(
        statement,
        columns=selection.columns,
        joins=[*memoized, *core.setup_joins(statement), *selection.joins],
        order_by=[*core.order_by_clauses(statement), *selection.order_by],
    )


def _columns(
    places: Sequence[_Place], loaders: Sequence[EntityLoader | None], processors: Sequence[Processor | None]
) -> Iterable[Column]:
    for place, loader in zip(places, loaders, strict=True):
        if loader is not None:
            yield _objects(loader)
        elif not isinstance(place, EntitySlots):
            yield from (_values(position, processors[position]) for position in place)


def _objects(loader: EntityLoader) -> Column:
    def objects(rows: Sequence[Row], run: LoadRun) -> Values:
        return hydrate(loader, rows, run)

    return objects


def _values(position: int, processor: Processor | None) -> Column:
    def values(rows: Sequence[Row], _run: LoadRun) -> Values:
        return [row[position] for row in rows]

    def processed(rows: Sequence[Row], _run: LoadRun) -> Values:
        return [processor(row[position]) for row in rows] if processor is not None else values(rows, _run)

    return values if processor is None else processed


def _check_places(compiled: CompiledStatement, places: Sequence[_Place]) -> None:
    """Refuse text among the columns of entities: nobody knows how many columns it stands for."""
    if not compiled.columns and any(isinstance(place, EntitySlots) for place in places):
        raise ArgumentError(
            "text() and * cannot be selected together with an entity, whose columns are found by their places; write "
            "single columns as literal_column('...').label('...')"
        )


def _result_shape(
    compiled: CompiledStatement, elements: Sequence[ClauseElement], places: Sequence[_Place]
) -> ResultShape:
    keys: list[str] = []
    objects: list[tuple[object, ...]] = []
    entities: list[int] = []
    if not compiled.columns:
        return ResultShape(())
    for element, place in zip(elements, places, strict=True):
        entity = core.entity_of(element)
        if isinstance(place, EntitySlots) and isinstance(entity, EntityRef):
            entities.append(len(keys))
            keys.append(entity.alias_name or entity.mapper.name)
            objects.append((entity.entity_namespace, entity.element))
            continue
        for position in place if not isinstance(place, EntitySlots) else ():
            column = compiled.columns[position]
            keys.append((core.proxy_key(element) if isinstance(entity, EntityRef) else None) or column.name)
            objects.append((*column.objects, *_attribute_of(element, entity)))
    return ResultShape(keys, objects, entities=entities)


def _attribute_of(element: ClauseElement, entity: object) -> tuple[object, ...]:
    """Return the mapped attribute by which a selected column is known, so that rows can be asked for it."""
    key = core.proxy_key(element)
    if not isinstance(entity, EntityRef) or key is None or key not in entity.mapper.attributes:
        return ()
    attribute = getattr(entity.entity_namespace, key)
    return () if isinstance(attribute, RelationshipExpression) else (attribute,)
