"""Resolve what ``relationship()`` arguments say by name: classes, tables, columns, expressions in strings."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import sqlalchemy
from sqlalchemy import Table

from aiosession.errors import MappingError, near
from aiosession.mapping.sides import foreign, remote

_DOTTED: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True, slots=True)
class TargetName:
    """A class named in an annotation: the one of that name in the registry, else what it means in its module."""

    name: str
    fallback: object = None


class ClassNames:
    """The classes of a registry by name; the same name in several modules needs a module path."""

    def __init__(self) -> None:
        self._by_name: dict[str, list[type[Any]]] = {}

    def add(self, class_: type[Any]) -> None:
        """Make *class_* known under its name; a class of the same module and name takes its place."""
        others = [other for other in self._by_name.get(class_.__name__, ()) if _path(other) != _path(class_)]
        self._by_name[class_.__name__] = [*others, class_]

    def discard(self, class_: type[Any]) -> None:
        """Forget *class_*."""
        rest = [other for other in self._by_name.get(class_.__name__, ()) if other is not class_]
        if rest:
            self._by_name[class_.__name__] = rest
        else:
            self._by_name.pop(class_.__name__, None)

    def find(self, path: str) -> list[type[Any]]:
        """Return the classes that *path*, a name with or without (part of) its module path, may mean."""
        name = path.rpartition(".")[2]
        return [
            class_
            for class_ in self._by_name.get(name, ())
            if path == name or _path(class_) == path or _path(class_).endswith("." + path)
        ]

    def one(self, path: str) -> type[Any] | None:
        """Return the class that *path* means, None if there is none; several are an error."""
        found = self.find(path)
        if len(found) > 1:
            paths = ", ".join(repr(_path(class_)) for class_ in found)
            raise MappingError(f"the name {path!r} stands for several classes: {paths}; write one of these paths")
        return found[0] if found else None

    def known(self) -> Iterable[str]:
        """Return all names, for messages."""
        return self._by_name.keys()


class NameResolver:
    """Turns strings and callables given to ``relationship()`` into what they mean."""

    def __init__(self, classes: ClassNames, tables: Mapping[str, Table]) -> None:
        self._classes = classes
        self._tables = tables

    def class_(self, argument: object) -> type[Any]:
        """Return the class that *argument* (a class, a string, a callable) stands for."""
        if isinstance(argument, TargetName):
            named = self._classes.one(argument.name)
            argument = (argument.fallback or argument.name) if named is None else named
        if isinstance(argument, str):
            return self._class_named(argument)
        found = argument if isinstance(argument, type) or not callable(argument) else argument()
        if isinstance(found, str):
            return self._class_named(found)
        if isinstance(found, type):
            return found
        raise MappingError(f"the target has to be a class, the name of one, or a callable returning one, not {found!r}")

    def table(self, argument: object) -> Table:
        """Return the table that *argument* (a table, its name, a callable) stands for."""
        found = argument() if callable(argument) else argument
        if isinstance(found, str):
            found = self._tables[found] if found in self._tables else self.expression(found)
        if isinstance(found, _Path):
            raise MappingError(f"secondary= names {argument!r}, which is no table{near(str(argument), self._tables)}")
        if isinstance(found, Table):
            return found
        raise MappingError(f"secondary= has to be a Table, its name, or a callable returning it, not {found!r}")

    def expression(self, argument: object) -> object:
        """Return the SQL expression, column or list of columns that *argument* stands for."""
        if isinstance(argument, str):
            return self._evaluate(argument)
        if callable(argument) and not hasattr(argument, "__clause_element__"):
            return cast("Callable[[], object]", argument)()
        return argument

    def _class_named(self, text: str) -> type[Any]:
        found = self._classes.one(text) if _DOTTED.fullmatch(text) else None
        if found is None:
            value = None if _DOTTED.fullmatch(text) else self._evaluate(text)
            if isinstance(value, type):
                return value
            raise MappingError(
                f"{text!r} is no mapped class of this registry{near(text, list(self._classes.known()))}; check the "
                f"name, and import the module that defines the class before mappers are configured"
            )
        return found

    def _evaluate(self, text: str) -> object:
        try:
            # The text is source code of the application, like the lambda that could stand in its place.
            return eval(text, {"__builtins__": {}}, _Scope(self._classes, self._tables))
        except MappingError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise MappingError(f"the expression {text!r} cannot be evaluated: {reason}") from error


class _Scope(dict[str, object]):
    """The names that expressions in strings may use."""

    def __init__(self, classes: ClassNames, tables: Mapping[str, Table]) -> None:
        super().__init__(foreign=foreign, remote=remote)
        self._classes = classes
        self._tables = tables

    def __missing__(self, name: str) -> object:
        found = self._classes.one(name)
        if found is not None:
            return found
        if name in self._tables:
            return self._tables[name]
        if hasattr(sqlalchemy, name):
            return getattr(sqlalchemy, name)
        return _Path(name, self._classes, self._tables)


class _Path:
    """The beginning of a dotted name: of a module path up to a class, or of a schema up to a table."""

    def __init__(self, path: str, classes: ClassNames, tables: Mapping[str, Table]) -> None:
        self._path = path
        self._classes = classes
        self._tables = tables

    def __getattr__(self, name: str) -> object:
        path = f"{self._path}.{name}"
        found = self._classes.one(path)
        if found is not None:
            return found
        if path in self._tables:
            return self._tables[path]
        if not any(path.startswith(known) or known.startswith(path) for known in self._prefixes()):
            hint = near(self._path, [*self._classes.known(), *self._tables])
            raise MappingError(f"{self._path!r} is neither a mapped class nor a table of this registry{hint}")
        return _Path(path, self._classes, self._tables)

    def _prefixes(self) -> Iterable[str]:
        for name in self._classes.known():
            for class_ in self._classes.find(name):
                parts = _path(class_).split(".")
                yield from (".".join(parts[start:]) for start in range(len(parts)))
        yield from self._tables


def _path(class_: type[Any]) -> str:
    return f"{class_.__module__}.{class_.__qualname__}"
