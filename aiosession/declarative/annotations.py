"""Read annotations: which are ``Mapped[...]``, and of what.

Names that do not exist yet (classes defined further down, imports for type checkers only) become :class:`Unresolved`
and may still be the target of a relation.
"""

import builtins
import functools
import inspect
import operator
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, ForwardRef, Union, get_args, get_origin

from typing_extensions import override

from aiosession.declarative.mapped import Mapped
from aiosession.errors import MappingError
from aiosession.mapping.names import TargetName

if sys.version_info >= (3, 14):
    import annotationlib

_NAME: Final = re.compile(r"[A-Za-z_][\w.]*")
_COLLECTIONS: Final = (list, set, dict, frozenset, tuple)
_ABSTRACT: Final[Mapping[object, type]] = {Sequence: list, Collection: list, Mapping: dict}


class Unresolved:
    """A name, possibly with arguments, that does not mean anything yet."""

    def __init__(self, text: str, arguments: tuple[object, ...] = ()) -> None:
        self.text = text
        self.arguments = arguments

    def __getattr__(self, name: str) -> "Unresolved":
        if name.startswith("__"):
            raise AttributeError(name)
        return Unresolved(f"{self.text}.{name}")

    def __getitem__(self, arguments: Any) -> "Unresolved":
        return Unresolved(self.text, arguments if isinstance(arguments, tuple) else (arguments,))

    def __or__(self, other: object) -> "Choice":
        return Choice((self, other))

    def __ror__(self, other: object) -> "Choice":
        return Choice((other, self))

    def __call__(self) -> None:
        """Pass for a type: ``typing`` wants its arguments callable."""

    @override
    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Choice:
    """A union of which a part is unresolved."""

    members: tuple[object, ...]

    def __or__(self, other: object) -> "Choice":
        return Choice((*self.members, other))

    def __ror__(self, other: object) -> "Choice":
        return Choice((other, *self.members))

    def __call__(self) -> None:
        """Pass for a type: ``typing`` wants its arguments callable."""


@dataclass(frozen=True, slots=True)
class MappedType:
    """What stands inside ``Mapped[...]``: the type without None, whether None was there, what ``Annotated`` added.

    *name* is set if the type was written as a string that is just a name.
    """

    inner: Any
    is_optional: bool
    metadata: tuple[object, ...] = ()
    annotated: Any = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class RelatedType:
    """What ``Mapped[...]`` says of a relation: the target (class or name), and the collection if it is one."""

    target: object
    collection: type[Any] | None


def annotations_of(class_: type[Any]) -> Mapping[str, object]:
    """Return the annotations in the body of *class_* itself, unresolved."""
    if sys.version_info >= (3, 14):
        return annotationlib.get_annotations(class_, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(class_)


def mapped_type(annotation: object, where: type[Any]) -> MappedType | None:
    """Return what an annotation in the body of *where* says, None if it is not ``Mapped[...]``."""
    found = _evaluated(annotation, where)
    if isinstance(found, Unresolved) and found.text.rpartition(".")[2] == "Mapped":
        arguments = found.arguments
    elif get_origin(found) is Mapped:
        arguments = get_args(found)
    else:
        return None
    if len(arguments) != 1:
        raise MappingError("Mapped takes one type: Mapped[int], Mapped[str | None]")
    return _without_none(arguments[0], where)


def is_class_variable(annotation: object, where: type[Any]) -> bool:
    """Tell whether an annotation is ``ClassVar[...]``."""
    found = _evaluated(annotation, where)
    return (
        found is ClassVar
        or get_origin(found) is ClassVar
        or (isinstance(found, Unresolved) and "ClassVar" in found.text)
    )


def related_type(mapped: MappedType, where: type[Any]) -> RelatedType:
    """Return the target and collection that a relation's annotation says."""
    found = _evaluated(mapped.inner, where)
    origin, arguments = _parts(found)
    collection = _collection(origin)
    if collection is None:
        return RelatedType(_target(mapped.inner if mapped.name is None else mapped.name, where), None)
    if not arguments:
        raise MappingError(f'the annotation says {_name(found)} of what? Write the class: {_name(found)}["Address"]')
    item = _without_none(arguments[-1], where)
    return RelatedType(_target(item.inner if item.name is None else item.name, where), collection)


def unresolved_names(annotation: object) -> tuple[str, ...]:
    """Return the names in *annotation* that mean nothing."""
    if isinstance(annotation, Unresolved):
        return (annotation.text,)
    parts = annotation.members if isinstance(annotation, Choice) else get_args(annotation)
    return tuple(name for part in parts for name in unresolved_names(part))


def _without_none(annotation: object, where: type[Any]) -> MappedType:
    found = _evaluated(annotation, where)
    if get_origin(found) is Annotated:
        inner, *metadata = get_args(found)
        nested = _without_none(inner, where)
        return MappedType(nested.inner, nested.is_optional, (*metadata, *nested.metadata), found)
    members = _members(found)
    if members is None:
        return MappedType(found, is_optional=found is None or found is NoneType, name=_plain_name(annotation))
    rest = [member for member in members if member is not None and member is not NoneType]
    is_optional = len(rest) < len(members)
    if len(rest) != 1:
        return MappedType(_union([_evaluated(member, where) for member in rest]), is_optional)
    nested = _without_none(rest[0], where)
    return replace(nested, is_optional=is_optional or nested.is_optional)


def _plain_name(annotation: object) -> str | None:
    text = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
    return text if isinstance(text, str) and _NAME.fullmatch(text) else None


def _members(found: object) -> tuple[Any, ...] | None:
    if isinstance(found, Choice):
        return found.members
    return get_args(found) if get_origin(found) in (Union, UnionType) else None


def _union(members: Sequence[Any]) -> Any:
    if any(isinstance(member, Unresolved) for member in members):
        return Choice(tuple(members))
    return functools.reduce(operator.or_, members)


def _collection(origin: object) -> type[Any] | None:
    if origin in _ABSTRACT:
        return _ABSTRACT[origin]
    return origin if isinstance(origin, type) and issubclass(origin, _COLLECTIONS) else None


def _parts(found: object) -> tuple[object, tuple[object, ...]]:
    if isinstance(found, Unresolved) and found.arguments:
        name = found.text.rpartition(".")[2].lower()
        known = {kind.__name__: kind for kind in _COLLECTIONS}
        return known.get(name), found.arguments
    origin = get_origin(found)
    return (found if origin is None else origin), get_args(found)


def _target(written: object, where: type[Any]) -> object:
    found = _evaluated(written, where)
    if isinstance(written, str):
        return TargetName(written, found if isinstance(found, type) else None)
    if isinstance(found, Unresolved):
        return TargetName(found.text)
    if isinstance(found, type):
        return found
    raise MappingError(
        f"the annotation says {_name(found)}, which is no class; annotate the target class or a collection of it"
    )


def _name(found: object) -> str:
    return found.__name__ if isinstance(found, type) else str(found)


def _evaluated(annotation: object, where: type[Any]) -> Any:
    text = annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else annotation
    if not isinstance(text, str):
        return annotation
    try:
        # Annotations are source code of the application; they are what typing.get_type_hints() evaluates, too.
        return eval(text, {}, _Names(where))
    except MappingError:
        raise
    except Exception as error:
        if _NAME.fullmatch(text):
            return Unresolved(text)
        raise MappingError(f"the annotation {text!r} cannot be evaluated: {type(error).__name__}: {error}") from error


class _Names(dict[str, object]):
    """What names mean in the body of a class; unknown ones stay names."""

    def __init__(self, where: type[Any]) -> None:
        super().__init__()
        module = sys.modules.get(where.__module__)
        self._scopes: tuple[Mapping[str, object], ...] = (
            {where.__name__: where},
            {} if module is None else vars(module),
            vars(builtins),
        )

    def __missing__(self, name: str) -> object:
        for scope in self._scopes:
            if name in scope:
                return scope[name]
        return Unresolved(name)
