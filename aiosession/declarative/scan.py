"""Collect what the body of a class and of its mixins declares, and complete it from annotations."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from sqlalchemy import Column
from sqlalchemy.types import NullType

from aiosession.core import complete_column
from aiosession.declarative.annotations import (
    MappedType,
    annotations_of,
    is_class_variable,
    mapped_type,
    related_type,
    unresolved_names,
)
from aiosession.declarative.columns import MappedColumn, declared_column, has_table, mapped_column
from aiosession.declarative.declared import DECLARED_VALUES, declared_attr, value_for
from aiosession.declarative.mapped import Declaration
from aiosession.declarative.relations import RelationshipDeclaration
from aiosession.declarative.types import TypeMap, sql_type
from aiosession.errors import ArgumentError, MappingError

_MISSING: Final = object()
_RESERVED: Final = frozenset({"metadata", "registry", "type_annotation_map", "awaitable_attrs"})


class Scan:
    """What a class declares: attributes in order, those of the class itself before those of its mixins."""

    def __init__(self, class_: type[Any], types: TypeMap) -> None:
        self.class_: Final = class_
        self.attributes: Final[dict[str, Declaration[Any]]] = {}
        self.types: Final[dict[str, MappedType]] = {}
        self.plain: Final[dict[str, object]] = {}
        self.order: Final[list[str]] = []
        self._types = types
        self._origins: dict[str, type[Any]] = {}
        self._late: list[tuple[str, declared_attr[Any], type[Any]]] = []
        self._problems: list[str] = []

    def run(self) -> None:
        """Collect everything; raises one MappingError with all that is wrong."""
        setattr(self.class_, DECLARED_VALUES, {})
        try:
            for base in self.class_.__mro__:
                if base.__module__ not in {"builtins", "typing", "abc"}:
                    self._scan_body(base)
            for name, declared, origin in self._late:
                self._attempt(name, lambda: self._add_declared(name, declared, origin))  # noqa: B023 - called at once
        finally:
            delattr(self.class_, DECLARED_VALUES)
        for name, declaration in self.attributes.items():
            self._attempt(name, lambda: self._complete(name, declaration))  # noqa: B023 - called at once
        if self._problems:
            raise MappingError(*self._problems)

    def _attempt(self, name: str, step: Callable[[], None]) -> None:
        try:
            step()
        except ArgumentError as error:
            texts = error.problems if isinstance(error, MappingError) else (str(error),)
            self._problems += (f"{self.class_.__name__}.{name}: {text}" for text in texts)

    # Collecting -------------------------------------------------------------------------------------------------------

    def _scan_body(self, base: type[Any]) -> None:
        annotations = annotations_of(base)
        names = []
        for name in _names(base, annotations):
            if name in self._origins or (name.startswith("__") and name.endswith("__")):
                continue
            names.append(name)
            self._origins[name] = base
            value = base.__dict__.get(name, _MISSING)
            annotation = annotations.get(name, _MISSING)
            self._attempt(name, lambda: self._note(name, value, annotation, base))  # noqa: B023 - called at once
        self.order[:0] = names

    def _note(self, name: str, value: object, annotation: object, base: type[Any]) -> None:
        mapped = None if annotation is _MISSING else mapped_type(annotation, base)
        declaration = self._declared(value, base)
        if declaration is None and mapped is None:
            self._note_plain(name, value, annotation, base)
            return
        if name in _RESERVED:
            raise MappingError(
                f"the name {name!r} is reserved for classes of a declarative base; call the attribute otherwise, "
                f"and its column {name!r}: mapped_column({name!r})"
            )
        if mapped is not None:
            self.types[name] = mapped
        elif annotation is not _MISSING and declaration is not None and not is_class_variable(annotation, base):
            raise MappingError(f"its annotation {annotation!r} has to be inside Mapped[...]")
        if declaration is None and value is not _MISSING:
            raise MappingError(f"has the plain value {value!r}; write mapped_column(default=...) or leave out Mapped")
        self._add(name, mapped_column() if declaration is None else declaration, base)

    def _note_plain(self, name: str, value: object, annotation: object, base: type[Any]) -> None:
        if isinstance(value, declared_attr):
            self._late.append((name, value, base))
        elif annotation is not _MISSING and not is_class_variable(annotation, base):
            self.plain[name] = annotation

    def _declared(self, value: object, base: type[Any]) -> Declaration[Any] | None:
        declaration = declared_column(value) if isinstance(value, Column) else value
        if not isinstance(declaration, Declaration):
            return None
        belongs_to_table = (
            isinstance(declaration, MappedColumn) and isinstance(value, Column) and value.table is not None
        )
        return declaration if base is self.class_ or belongs_to_table else declaration.copy()

    def _add(self, name: str, declaration: Declaration[Any], base: type[Any]) -> None:
        self.attributes[name] = declaration
        if base is not self.class_ or isinstance(declaration, MappedColumn):
            # declared_attr functions and table arguments refer to the columns of this class, not of the mixin
            type.__setattr__(self.class_, name, declaration)

    def _add_declared(self, name: str, declared: declared_attr[Any], origin: type[Any]) -> None:
        value: object = value_for(declared, self.class_)
        declaration = declared_column(value) if isinstance(value, Column) else value
        if not isinstance(declaration, Declaration):
            return
        returned = declared.function.__annotations__.get("return")
        mapped = None if returned is None else mapped_type(returned, origin)
        if mapped is not None:
            self.types[name] = mapped
        self.attributes[name] = declaration

    # Completing -------------------------------------------------------------------------------------------------------

    def _complete(self, name: str, declaration: Declaration[Any]) -> None:
        mapped = self.types.get(name)
        if mapped is None:
            return
        if isinstance(declaration, MappedColumn) and not has_table(declaration.column):
            self._complete_column(declaration, mapped)
        elif isinstance(declaration, RelationshipDeclaration):
            self._complete_relation(declaration, mapped, self._origins[name])

    def _complete_column(self, declaration: MappedColumn[Any], mapped: MappedType) -> None:
        for template in mapped.metadata:
            if isinstance(template, MappedColumn):
                declaration.complete(template)
        column = declaration.column
        if isinstance(column.type, NullType) and not column.foreign_keys:
            complete_column(column, Column(self._sql_type(mapped)))
        if not declaration.has_nullable:
            column.nullable = mapped.is_optional and not column.primary_key

    def _sql_type(self, mapped: MappedType) -> Any:
        for python_type in (mapped.annotated, mapped.inner):
            found = None if python_type is None else sql_type(python_type, self._types)
            if found is not None:
                return found
        shown = mapped.inner.__name__ if isinstance(mapped.inner, type) else str(mapped.inner).replace("typing.", "")
        unknown = unresolved_names(mapped.inner)
        if unknown:
            remedy = f"the name {unknown[0]!r} is not known here (imported for type checkers only?)"
        else:
            remedy = f"there is no SQL type for {shown}"
        raise MappingError(
            f"{remedy}; name the SQL type in mapped_column(...), add {shown} to type_annotation_map, or say "
            f"relationship() if it is another mapped class"
        )

    def _complete_relation(
        self, declaration: RelationshipDeclaration[Any], mapped: MappedType, origin: type[Any]
    ) -> None:
        arguments = declaration.arguments
        related = related_type(mapped, origin)
        if arguments.argument is None:
            arguments.argument = related.target
        if arguments.uselist is None:
            arguments.uselist = related.collection is not None
        if related.collection is None or arguments.collection_class is not None:
            return
        if issubclass(related.collection, frozenset | tuple):
            raise MappingError(f"a {related.collection.__name__} cannot be changed; annotate a list, set or dict")
        if related.collection is dict:
            raise MappingError(
                "a dict needs its keys: say collection_class=attribute_keyed_dict('name') or keyfunc_mapping(...)"
            )
        arguments.collection_class = related.collection


def _names(base: type[Any], annotations: Any) -> Iterator[str]:
    """Yield the names in the order of the class body, as far as it is known: annotated ones tell their place."""
    unannotated = [name for name in base.__dict__ if name not in annotations]
    assigned = list(base.__dict__)
    for name in annotations:
        if name in base.__dict__:
            while unannotated and assigned.index(unannotated[0]) < assigned.index(name):
                yield unannotated.pop(0)
        yield name
    yield from unannotated
