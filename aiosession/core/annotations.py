"""What is attached to the parts of a statement, and how it takes part in cache keys."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Column
from sqlalchemy.sql.cache_key import HasCacheKey
from sqlalchemy.sql.elements import BindParameter, ClauseElement
from typing_extensions import override

ENTITY_ANNOTATION: Final = "aiosession_entity"
ENTITY_PLUGIN: Final = "aiosession"  # Core's name for who compiles statements that mention entities

C = TypeVar("C", bound=ClauseElement)


def annotate(clause: C, annotations: Mapping[str, object]) -> C:
    """Return a copy of *clause* that carries *annotations*; it compares and compiles like the original."""
    copy = clause._annotate(annotations)
    if ENTITY_ANNOTATION in annotations:
        copy._set_propagate_attrs({"compile_state_plugin": ENTITY_PLUGIN, "plugin_subject": None})
    return copy


def annotations_of(clause: object) -> Mapping[str, object]:
    """Return what :func:`annotate` attached to *clause*."""
    return cast("Mapping[str, object]", getattr(clause, "_annotations", {}))


def deannotate(clause: C) -> C:
    """Return *clause* without annotations."""
    return clause._deannotate()


def entity_of(clause: object) -> object | None:
    """Return the entity reference that *clause* (a table or column in a statement) belongs to, if any."""
    found = getattr(clause, "_annotations", None)
    return None if not found else found.get(ENTITY_ANNOTATION)


def proxy_key(clause: object) -> str | None:
    """Return the attribute name under which a column expression appears in results."""
    return cast("str | None", getattr(clause, "_proxy_key", None))


class CacheKeyed(HasCacheKey):
    """Something that appears in statements (as an annotation or join target) and takes part in their cache keys.

    With ``is_anonymous`` two instances count as the same if they sit in the same places of two statements.
    """

    __slots__ = ()
    is_anonymous = False

    def cache_facts(self) -> tuple[object, ...]:
        """Return what distinguishes this from others of its class: hashable values, clauses, other CacheKeyed."""
        raise NotImplementedError

    @override
    def _gen_cache_key(self, am: Any, bindparams: list[BindParameter[Any]]) -> tuple[object, ...]:
        place = am[id(self)] if self.is_anonymous else None
        return type(self), place, *facts_key(self.cache_facts(), am, bindparams)


def facts_key(facts: Iterable[object], anon_map: Any, bindparams: list[BindParameter[Any]]) -> Iterator[object]:
    """Yield the cache keys of *facts*, clauses among them."""
    for fact in facts:
        yield fact._gen_cache_key(anon_map, bindparams) if isinstance(fact, HasCacheKey) else fact


def copy_column(column: Column[Any]) -> Column[Any]:
    """Return a copy of *column* that belongs to no table."""
    return column._copy()


def complete_column(column: Column[Any], template: Column[Any]) -> None:
    """Give *column* everything that *template* says and *column* itself does not."""
    template._merge(column)
