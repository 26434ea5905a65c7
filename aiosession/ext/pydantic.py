"""What does a response model need of an entity? Loader options for exactly its shape.

``load_options(UserOut, User)`` walks the fields of a pydantic model against the mapping: columns, relations, and the
models of what they lead to.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, get_args

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

from aiosession import ArgumentError, Load, Mapper, UnmappedError, inspect
from aiosession.errors import near

Path = tuple[str, ...]
"""Attributes that are read one after the other, as by ``AliasPath("country", "name")``."""


def load_options(
    model: Any, entity: Any, *, depth: int | None = None, columns: Literal["needed", "all"] = "needed"
) -> list[Load]:
    """Return what to load for a response model: ``select(User).options(*load_options(UserOut, User))``.

    Fields are found in the entity as pydantic finds them with ``from_attributes``: by name, or by validation alias.
    Collections come by `selectinload`, single objects by `joinedload`; of each entity the columns that its model reads,
    deferred ones too, and those that the session needs (`load_only`). A relation whose field names no model comes with
    all its columns, and so does an entity whose model reads a property, for that may read anything. Relations that the
    mapping loads by itself and the model does not read are left out.

    Args:
        model: A pydantic model, or a type that contains some: ``list[UserOut]``, ``UserOut | None``. Of a union, all
            models count that fit the entity.
        entity: The mapped class, or an alias of it.
        depth: How many levels of a model that contains itself are loaded; one more than the data is deep, for reading
            where it ends needs an empty collection.
        columns: ``"all"`` loads all columns that are not deferred, for a handler that reads more than the model does.

    Raises:
        ArgumentError: A field without default has no counterpart in the entity; a model contains itself and *depth*
            is not given; or an argument is not what it has to be, such as model and entity the wrong way round.
        UnmappedError: *entity* is not mapped.

    """
    if columns not in {"needed", "all"}:
        raise ArgumentError(f"columns is 'needed' or 'all', not {columns!r}")
    if depth is not None and not _is_positive(depth):
        raise ArgumentError(f"depth is a number of levels, 1 or more, not {depth!r}")
    if isinstance(model, BaseModel):
        raise ArgumentError(f"load_options() takes the class {type(model).__name__}, not an object of it")
    if next(models_in(entity), None) is not None and next(models_in(model), None) is None:
        raise ArgumentError(
            f"load_options() takes the model first and then the mapped class: load_options(UserOut, User); the second "
            f"is a model here, {entity!r}"
        )
    arguments = (model, entity, depth, columns)
    return list(_worked_out(*arguments) if isinstance(model, Hashable) else _worked_out.__wrapped__(*arguments))


def _is_positive(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 1


@lru_cache(maxsize=256)
def _worked_out(model: Any, entity: Any, depth: int | None, columns: str) -> tuple[Load, ...]:
    found = inspect(entity)
    mapper: Mapper[Any] = found if isinstance(found, Mapper) else found.mapper
    if isinstance(entity, mapper.class_):
        raise UnmappedError(entity)
    models = tuple(models_in(model))
    if not models:
        raise ArgumentError(
            f"load_options() takes a pydantic model, or a type that contains one, and then the mapped class, not "
            f"{model!r}"
        )
    walk = _Walk(depth, takes_all=columns == "all")
    return (walk.load(models, mapper, entity),)


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a type contains: in lists, dictionaries, unions, ``Annotated`` and aliases of types."""
    value = getattr(annotation, "__value__", annotation)  # of ``type Users = list[UserOut]``
    if isinstance(value, type) and issubclass(value, BaseModel):
        if not value.__pydantic_complete__:
            value.model_rebuild()
        root = value.model_fields.get("root") if value.__pydantic_root_model__ else None
        if root is None:
            yield value
        else:
            yield from models_in(root.annotation)
        return
    for part in get_args(value):
        yield from models_in(part)


@dataclass(slots=True)
class _Needs:
    """What the models of one entity read."""

    columns: set[str] = field(default_factory=set)
    relations: dict[str, list[Any]] = field(default_factory=dict)
    """Relations, with the annotations of the fields that read them, or paths beyond them."""
    reads_anything: bool = False

    def add(self, other: "_Needs") -> None:
        self.columns |= other.columns
        self.reads_anything = self.reads_anything or other.reads_anything
        for name, annotations in other.relations.items():
            self.relations.setdefault(name, []).extend(annotations)


@dataclass(frozen=True, slots=True)
class _Beyond:
    """Attributes to be read from what a relation leads to, and the type of what is found there."""

    path: Path
    annotation: Any
    where: str


class _Walk:
    """Goes through models and mappers side by side."""

    def __init__(self, depth: int | None, *, takes_all: bool) -> None:
        self._depth: Final = depth
        self._takes_all: Final = takes_all
        self._open: list[tuple[type[BaseModel], Mapper[Any]]] = []
        """The models around the one that is being looked at, with their entities."""

    def load(self, models: Sequence[type[BaseModel]], mapper: Mapper[Any], entity: Any) -> Load:
        """Return what *models* need of *entity*."""
        return self._loaded(self._needs_of(models, mapper), mapper, entity)

    def _needs_of(self, models: Sequence[type[BaseModel]], mapper: Mapper[Any]) -> _Needs:
        needs = _Needs()
        refusals: list[ArgumentError] = []
        for model in models:
            try:
                needs.add(_needs(model, mapper))
            except ArgumentError as error:
                refusals.append(error)
        if refusals and len(refusals) == len(models):
            raise refusals[0]
        self._open.extend((model, mapper) for model in models)
        return needs

    def _loaded(self, needs: _Needs, mapper: Mapper[Any], entity: Any) -> Load:
        before = len(self._open)
        load = self._with_columns(Load(entity), needs, mapper, entity)
        for name, annotations in needs.relations.items():
            target = self._behind(annotations, mapper, name)
            if target is not None:
                attribute = getattr(entity, name)
                is_many = mapper.relationships[name].uselist
                reached = Load(entity).selectinload(attribute) if is_many else Load(entity).joinedload(attribute)
                load = load.options(reached.options(target))
        del self._open[before:]
        return load

    def _with_columns(self, load: Load, needs: _Needs, mapper: Mapper[Any], entity: Any) -> Load:
        deferred = [name for name in sorted(needs.columns) if mapper.attributes[name].deferred]
        if self._takes_all or needs.reads_anything:
            return load.undefer(*(getattr(entity, name) for name in deferred)) if deferred else load
        keys = {attribute.key for attribute in mapper.primary_key_attributes}
        load = load.load_only(*(getattr(entity, name) for name in sorted(needs.columns | keys)))
        eager = [
            name
            for name, each in mapper.relationships.items()
            if each.lazy in {"selectin", "joined"} and name not in needs.relations
        ]
        for name in eager:
            load = load.options(Load(entity).lazyload(getattr(entity, name)))
        return load

    def _behind(self, annotations: Sequence[Any], mapper: Mapper[Any], name: str) -> Load | None:
        """Return what is needed of the entity that a relation leads to; None if this is deep enough."""
        target = mapper.relationships[name].target
        before = len(self._open)
        found = [self._read_of(annotation, target, f"{mapper.name}.{name}") for annotation in annotations]
        if not any(found):
            return None
        needs = _Needs()
        for each in found:
            needs.add(each or _Needs())
        load = self._loaded(needs, target, target.class_)
        del self._open[before:]
        return load

    def _read_of(self, annotation: Any, target: Mapper[Any], where: str) -> _Needs | None:
        """Return what a field needs of the entity that it finds; None if this is deep enough."""
        if isinstance(annotation, _Beyond):
            return _needs_of_path(annotation.path, target, annotation)
        models = list(models_in(annotation))
        if not models:
            return _Needs(reads_anything=True)
        return self._needs_of(models, target) if self._goes_on(models, target, where) else None

    def _goes_on(self, models: Sequence[type[BaseModel]], mapper: Mapper[Any], where: str) -> bool:
        """Whether models are still to be walked through; those that are open already, *depth* times only."""
        times = max(self._open.count((model, mapper)) for model in models)
        if times == 0:
            return True
        if self._depth is None:
            raise ArgumentError(
                f"{models[0].__name__} contains itself, through {where}: say how many levels to load, "
                f"load_options(..., depth=3); one more than the data is deep"
            )
        return times <= self._depth


def _needs(model: type[BaseModel], mapper: Mapper[Any]) -> _Needs:
    """Return what one model reads of an entity."""
    needs = _Needs()
    for name, info in model.model_fields.items():
        where = f"{model.__name__}.{name}"
        known = [path for path in _paths(model, name, info) if hasattr(mapper.class_, path[0])]
        if known:
            needs.add(_needs_of_path(known[0], mapper, _Beyond(known[0], info.annotation, where)))
        elif info.is_required():
            first = next(_paths(model, name, info))[0]
            raise ArgumentError(
                f"{where} has no counterpart in {mapper.name}, which has no attribute "
                f"{first!r}{near(first, mapper.attributes)}. Give it a default to leave it out, or a validation alias "
                f"to read another attribute; of a page or an envelope give the model of its items"
            )
    return needs


def _needs_of_path(path: Path, mapper: Mapper[Any], read: _Beyond) -> _Needs:
    """Return what is needed to read *path*, from an object of *mapper*, as a value of the type that *read* names."""
    name, *rest = path
    needs = _Needs()
    if name in mapper.relationships:
        reached = _Beyond(tuple(rest), read.annotation, read.where) if rest else read.annotation
        needs.relations[name] = [reached]
    elif name in mapper.attributes:
        needs.columns.add(name)
    elif hasattr(mapper.class_, name):
        needs.reads_anything = True
    else:
        raise ArgumentError(
            f"{read.where} reads {name!r} of {mapper.name}, which has no such attribute{near(name, mapper.attributes)}"
        )
    return needs


def _paths(model: type[BaseModel], name: str, info: FieldInfo) -> Iterator[Path]:
    """Yield what pydantic looks for to fill a field, in its order."""
    alias = info.validation_alias
    config = model.model_config
    by_alias = config.get("validate_by_alias", True)
    if alias is not None and by_alias:
        choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
        for choice in choices:
            yield (choice,) if isinstance(choice, str) else _path_of(choice)
    if alias is None or not by_alias or config.get("validate_by_name") or config.get("populate_by_name"):
        yield (name,)


def _path_of(alias: AliasPath) -> Path:
    """Return the attributes that a path goes through; positions in collections are not attributes."""
    return tuple(part for part in alias.path if isinstance(part, str))
