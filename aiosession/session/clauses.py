"""How is a query built step by step? `Clauses` collects what a ``select()`` consists of; nothing is sent.

Every method returns a new query.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias, TypeVar, cast

from sqlalchemy import (
    CTE,
    ClauseElement,
    ColumnElement,
    CompoundSelect,
    Exists,
    FromClause,
    Label,
    ScalarSelect,
    Select,
    Subquery,
    literal_column,
    select,
)
from sqlalchemy import except_ as core_except
from sqlalchemy import intersect as core_intersect
from sqlalchemy import union as core_union
from sqlalchemy import union_all as core_union_all
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.base import ExecutableOption
from typing_extensions import override

from aiosession import core
from aiosession.errors import AioSessionError, ArgumentError, InvalidRequestError, near
from aiosession.loading.options import LoadOption
from aiosession.mapping.expressions import RelationshipExpression
from aiosession.mapping.inspection import entity_ref, mapper_of
from aiosession.mapping.mapper import AnyMapper, EntityRef, Mapper

T = TypeVar("T")
AnySelect: TypeAlias = core.AnySelect
AnyStatement: TypeAlias = AnySelect | CompoundSelect[*tuple[Any, ...]] | core.EntitiesFrom


class Clauses:
    """The part of a `Query` that builds its statement."""

    __slots__ = ("_entities", "_options", "_statement", "session")

    def __init__(
        self,
        session: Any,
        entities: Sequence[Any],
        statement: AnyStatement | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.session: Final = session
        """The session that runs the query."""
        if not entities:
            raise ArgumentError("query() takes at least one class, attribute or column")
        self._entities: Final = tuple(map(selectable, entities))
        self._statement: Final[AnyStatement] = (
            built(lambda: select(*self._entities)) if statement is None else statement
        )
        self._options: Final[Mapping[str, Any]] = options or {}

    # What it is

    @property
    def statement(self) -> Any:
        """The statement so far, to be executed or built upon elsewhere."""
        return self._statement

    @property
    def whereclause(self) -> ColumnElement[bool] | None:
        """The criteria so far."""
        return selected(self._statement, "whereclause").whereclause

    @property
    def column_descriptions(self) -> list[dict[str, Any]]:
        """For each thing that is selected its name, type, expression and entity."""
        return [_described(entity) for entity in self._entities]

    def __clause_element__(self) -> ClauseElement:
        return cast("ClauseElement", self._statement)

    @override
    def __str__(self) -> str:
        return str(self._statement)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(str(self).split())}>"

    # Clauses

    def filter(self, *criteria: Any) -> Self:
        """Add criteria, all of which have to be met."""
        return self._before_limit(lambda statement: statement.where(*criteria), "filter")

    def where(self, *criteria: Any) -> Self:
        """Add criteria, all of which have to be met; the same as `filter`."""
        return self._before_limit(lambda statement: statement.where(*criteria), "where")

    def filter_by(self, **values: Any) -> Self:
        """Add equality with values, by names of attributes of what was joined last, or before, or else is selected."""
        criteria = [self._attribute(name) == value for name, value in values.items()]
        return self._before_limit(lambda statement: statement.where(*criteria), "filter_by")

    def join(self, target: Any, onclause: Any = None, *, isouter: bool = False, full: bool = False) -> Self:
        """Join a relation (``User.books``, or its name), or a class or table with its ON clause."""
        wanted = self._relation(target)
        return self._before_limit(
            lambda statement: statement.join(wanted, onclause, isouter=isouter, full=full), "join"
        )

    def outerjoin(self, target: Any, onclause: Any = None, *, full: bool = False) -> Self:
        """Join so that rows without a partner are kept."""
        return self.join(target, onclause, isouter=True, full=full)

    def select_from(self, *sources: Any) -> Self:
        """Say what to begin the FROM clause with."""
        return self._with(lambda statement: statement.select_from(*map(selectable, sources)), "select_from")

    def order_by(self, *columns: Any) -> Self:
        """Add columns to order by; a single None takes back all of them."""
        return self._ordered(lambda statement: statement.order_by(*columns))

    def group_by(self, *columns: Any) -> Self:
        """Add columns to group by; a single None takes back all of them."""
        return self._with(lambda statement: statement.group_by(*columns), "group_by")

    def having(self, *criteria: Any) -> Self:
        """Add criteria for groups."""
        return self._before_limit(lambda statement: statement.having(*criteria), "having")

    def distinct(self, *columns: Any) -> Self:
        """Leave out repeated rows; with *columns*, DISTINCT ON of PostgreSQL."""
        return self._with(lambda statement: statement.distinct(*columns), "distinct")

    def limit(self, limit: int | ColumnElement[int] | None) -> Self:
        """Return that many rows at most; None takes it back."""
        return self._ordered(lambda statement: statement.limit(limit))

    def offset(self, offset: int | ColumnElement[int] | None) -> Self:
        """Leave out that many rows at the beginning; None takes it back."""
        return self._ordered(lambda statement: statement.offset(offset))

    def slice(self, start: int | None, stop: int | None) -> Self:
        """Return the rows from *start* up to *stop* of what the query gives so far, as a slice of a list would."""
        if (start or 0) < 0 or (stop or 0) < 0:
            raise ArgumentError(f"a query has no rows before its first: slice({start}, {stop}); order it the other way")
        first = start or 0
        return self._ordered(lambda statement: statement.slice(first, stop if stop is None else max(first, stop)))

    def correlate(self, *entities: Any) -> Self:
        """As a subquery, take rows of *entities* from the query around it."""
        return self._with(lambda statement: statement.correlate(*map(selectable, entities)), "correlate")

    def with_for_update(self, **arguments: Any) -> Self:
        """Lock the rows: *read*, *nowait*, *skip_locked*, *of*, *key_share* as in Core's ``with_for_update()``."""
        return self._with(lambda statement: statement.with_for_update(**arguments), "with_for_update")

    def options(self, *options: ExecutableOption) -> Self:
        """Say how related objects and columns are loaded: `selectinload` and others."""
        return self._with(lambda statement: statement.options(*options), "options")

    def params(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> Self:
        """Give values to the named parameters in the criteria."""
        given = {**(values or {}), **more}
        return self._with(lambda statement: statement.params(given), "params")

    def execution_options(self, **options: Any) -> Self:
        """Set execution options, such as ``populate_existing=True``."""
        return type(self)(self.session, self._entities, self._statement, {**self._options, **options})

    def populate_existing(self) -> Self:
        """Have objects in memory overwritten by what is read, changes included."""
        return self.execution_options(populate_existing=True)

    def autoflush(self, setting: bool) -> Self:  # noqa: FBT001 - the known signature
        """Say whether pending changes are written before the query."""
        return self.execution_options(autoflush=setting)

    def yield_per(self, count: int) -> Self:
        """Read *count* rows at a time when the query is streamed with ``async for``."""
        return self.execution_options(yield_per=count)

    # Queries made of queries

    def union(self, *others: "Clauses") -> Self:
        """Return the rows of this query and of *others*, each once."""
        return self._compound(core_union, others)

    def union_all(self, *others: "Clauses") -> Self:
        """Return the rows of this query and of *others*."""
        return self._compound(core_union_all, others)

    def intersect(self, *others: "Clauses") -> Self:
        """Return the rows that this query and all *others* have."""
        return self._compound(core_intersect, others)

    def except_(self, *others: "Clauses") -> Self:
        """Return the rows of this query that none of *others* has."""
        return self._compound(core_except, others)

    def from_statement(self, statement: Any) -> Self:
        """Make the objects from the rows of another statement, ``text()`` for one."""
        return self._with(lambda own: own.from_statement(statement), "from_statement")

    def subquery(self, name: str | None = None) -> Subquery:
        """Return the query as something to select from: ``aliased(User, query.subquery())``."""
        return rows_of(self._statement, "subquery").subquery(name)

    def cte(self, name: str | None = None, *, recursive: bool = False) -> CTE:
        """Return the query as a member of a WITH clause."""
        return rows_of(self._statement, "cte").cte(name, recursive=recursive)

    def scalar_subquery(self) -> ScalarSelect[Any]:
        """Return the query as a value: it has to give one column of one row."""
        return rows_of(self._statement, "scalar_subquery").scalar_subquery()

    def label(self, name: str) -> Label[Any]:
        """Return the query as a value with a name."""
        return self.scalar_subquery().label(name)

    def exists(self) -> Exists:
        """Return EXISTS (this query), for criteria: ``session.query(query.exists()).scalar()``."""
        one: AnySelect = selected(self._statement, "exists").with_only_columns(
            literal_column("1"), maintain_column_froms=True
        )
        return one.exists()

    # Inside

    @property
    def _is_of_objects(self) -> bool:
        return len(self._entities) == 1 and mapper_or_none(self._entities[0]) is not None

    def _copy(self, statement: AnyStatement, entities: Sequence[Any] | None = None) -> Self:
        return type(self)(self.session, self._entities if entities is None else entities, statement, self._options)

    def _with(self, change: Callable[[AnySelect], Any], method: str, entities: Sequence[Any] | None = None) -> Self:
        statement = selected(self._statement, method)
        return self._copy(built(lambda: change(statement)), entities)

    def _before_limit(self, change: Callable[[AnySelect], Any], method: str) -> Self:
        """Change what a limit applies to, which has to be said first: SQL limits what is left in the end."""
        if core.is_sliced(selected(self._statement, method)):
            raise InvalidRequestError(
                f"{method}() comes before limit(), offset() and slice(), which apply to what the whole query gives; "
                f"to go on with the limited rows: session.query(aliased(User, query.subquery()))"
            )
        return self._with(change, method)

    def _ordered(self, change: Callable[[Any], Any]) -> Self:
        """Change what compound statements have too."""
        if isinstance(self._statement, core.EntitiesFrom):
            selected(self._statement, "order_by")
        return self._copy(built(lambda: change(self._statement)))

    def _compound(self, combine: Callable[..., Any], others: Sequence["Clauses"]) -> Self:
        rows = [rows_of(self._statement, "union"), *(rows_of(other.statement, "union") for other in others)]
        together = built(lambda: combine(*rows))
        if not self._is_of_objects:
            return self._copy(together)
        options = cast("tuple[LoadOption, ...]", core.with_options(self._statement))
        return self._copy(built(lambda: select(*self._entities).options(*options).from_statement(together)))

    def _attribute(self, name: str) -> Any:
        """Return the attribute of this name, of what was joined last if several have it."""
        joined = [target for target, *_ in core.setup_joins(self._statement)]
        begun = core.from_objects(self._statement) if isinstance(self._statement, Select) else ()
        sources = [_namespace(each) for each in (*reversed(joined), *begun, *self._entities)]
        known: list[str] = []
        for source in sources:
            names = source.mapper.attributes if isinstance(source, EntityRef) else source
            if name in names:
                return getattr(source.entity_namespace, name) if isinstance(source, EntityRef) else source[name]
            known += names
        raise ArgumentError(
            f"{', '.join(map(_shown, sources)) or 'nothing that is selected'} has no {name!r} for filter_by()"
            f"{near(name, known)}"
        )

    def _relation(self, target: Any) -> Any:
        if not isinstance(target, str):
            return selectable(target)
        first = self._entities[0]
        mapper = mapper_or_none(first)
        if mapper is None or target not in mapper.relationships:
            known = [] if mapper is None else list(mapper.relationships)
            raise ArgumentError(f"join({target!r}) names no relation of {first!r}{near(target, known)}")
        return getattr(first, target)


def selected(statement: AnyStatement, method: str) -> AnySelect:
    """Return *statement* if it is a plain SELECT, to which *method* applies."""
    if isinstance(statement, Select):
        return statement
    raise InvalidRequestError(
        f"{method}() does not apply to a union or from_statement(); select from it instead: "
        f"session.query(aliased(User, query.subquery()))"
    )


def rows_of(statement: AnyStatement, method: str) -> AnySelect | CompoundSelect[*tuple[Any, ...]]:
    """Return the SELECT or union that gives the rows of *statement*."""
    if isinstance(statement, core.EntitiesFrom) and isinstance(statement.rows, CompoundSelect):
        return statement.rows
    return statement if isinstance(statement, CompoundSelect) else selected(statement, method)


def selectable(entity: Any) -> Any:
    """Return what Core can select; a mapper stands for its class."""
    return entity.class_ if isinstance(entity, Mapper) else entity


def mapper_or_none(entity: Any) -> AnyMapper | None:
    """Return the mapper of a class or alias; None for columns and everything else."""
    is_entity = isinstance(entity, type) or isinstance(getattr(entity, "__entity_ref__", None), EntityRef)
    return mapper_of(entity) if is_entity else None


def _described(entity: Any) -> dict[str, Any]:
    mapper = mapper_or_none(entity)
    if mapper is not None:
        is_alias = not isinstance(entity, type)
        return {"name": mapper.name, "type": mapper.class_, "aliased": is_alias, "expr": entity, "entity": entity}
    owner = (
        core.entity_of(entity) if isinstance(entity, FromClause | ColumnElement) else getattr(entity, "entity", None)
    )
    return {
        "name": getattr(entity, "key", None) or getattr(entity, "name", None),
        "type": getattr(entity, "type", None),
        "aliased": False,
        "expr": entity,
        "entity": owner.entity_namespace if isinstance(owner, EntityRef) else None,
    }


def built(build: Callable[[], Any]) -> Any:
    """Return what *build* makes; what Core refuses becomes an `ArgumentError`."""
    try:
        return build()
    except AioSessionError:
        raise
    except SQLAlchemyError as error:
        raise ArgumentError(str(error)) from error


def _namespace(source: Any) -> Any:
    """Return where the names of *source* are: an entity, or the columns of a table."""
    if isinstance(source, RelationshipExpression):
        return source.target
    if isinstance(source, type) or isinstance(getattr(source, "__entity_ref__", None), EntityRef):
        return entity_ref(source)
    entity = core.entity_of(source) or getattr(source, "entity", None)
    if isinstance(entity, EntityRef):
        return entity
    return dict(source.columns) if isinstance(source, FromClause) else {}


def _shown(source: Any) -> str:
    return source.alias_name or source.mapper.name if isinstance(source, EntityRef) else f"columns {list(source)}"
