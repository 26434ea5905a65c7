"""The base classes of declarative mappings."""

from collections import ChainMap
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import Column, MetaData, Table
from typing_extensions import dataclass_transform, override

from aiosession.declarative.columns import column_property, deferred, mapped_column
from aiosession.declarative.constructor import construct
from aiosession.declarative.dataclass_fields import DATACLASS_OPTIONS
from aiosession.declarative.mapped import UNSET, Declaration, Unset
from aiosession.declarative.registry import registry
from aiosession.declarative.relations import relationship
from aiosession.errors import MappingError
from aiosession.mapping.mapper import Mapper
from aiosession.mapping.registry import mapper_of_class
from aiosession.state.awaitable import AwaitableAttributes, awaitable_attrs


class AsyncAttrs:
    """Mixin that gives objects ``awaitable_attrs``."""

    @property
    def awaitable_attrs(self) -> AwaitableAttributes:
        """The attributes of this object as awaitables: ``books = await author.awaitable_attrs.books``."""
        return awaitable_attrs(self)


class DeclarativeMeta(type):
    """Lets attributes be added to a mapped class: ``User.posts = relationship(...)``."""

    if not TYPE_CHECKING:

        @override
        def __setattr__(cls, name: str, value: object) -> None:
            mapper = mapper_of_class(cls)
            if mapper is not None and isinstance(value, Declaration | Column):
                mapper.registry.add_declaration(mapper, name, value)
            else:
                super().__setattr__(name, value)


class DeclarativeBase(AsyncAttrs, metaclass=DeclarativeMeta):
    """Derive your own base class from this, once; classes derived from that are mapped by what they declare.

    The base may set ``metadata``, ``registry`` and ``type_annotation_map``.
    """

    registry: ClassVar[registry]
    metadata: ClassVar[MetaData]
    __mapper__: ClassVar[Mapper[Any]]
    __table__: ClassVar[Table]
    __tablename__: ClassVar[Any]
    __table_args__: ClassVar[Any]
    __mapper_args__: ClassVar[Any]

    @override
    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if DeclarativeBase in cls.__bases__:
            _set_up_base(cls)
        elif not cls.__dict__.get("__abstract__", False):
            cls.registry.map_declaratively(cls)

    if TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            """Set the attributes given by keyword."""
            ...


@dataclass_transform(field_specifiers=(mapped_column, relationship, column_property, deferred))
class MappedAsDataclass:
    """Mixin that makes mapped classes real dataclasses, with a typed constructor.

    ``class Base(MappedAsDataclass, DeclarativeBase, kw_only=True)``: options hold for all classes derived from it.
    """

    @override
    def __init_subclass__(
        cls,
        *,
        init: bool | Unset = UNSET,
        repr: bool | Unset = UNSET,
        eq: bool | Unset = UNSET,
        order: bool | Unset = UNSET,
        unsafe_hash: bool | Unset = UNSET,
        match_args: bool | Unset = UNSET,
        kw_only: bool | Unset = UNSET,
        **kwargs: Any,
    ) -> None:
        given = {
            "init": init,
            "repr": repr,
            "eq": eq,
            "order": order,
            "unsafe_hash": unsafe_hash,
            "match_args": match_args,
            "kw_only": kw_only,
        }
        own = {name: value for name, value in given.items() if value is not UNSET}
        said = ChainMap(own, *(base.__dict__.get(DATACLASS_OPTIONS, {}) for base in cls.__mro__))
        type.__setattr__(cls, DATACLASS_OPTIONS, dict(said))
        super().__init_subclass__(**kwargs)


def _set_up_base(base: type[DeclarativeBase]) -> None:
    if "__tablename__" in base.__dict__ and isinstance(base.__dict__["__tablename__"], str):
        raise MappingError(
            f"class {base.__name__} derives from DeclarativeBase itself; derive a base class first "
            f"(class Base(DeclarativeBase): pass) and the mapped classes from that"
        )
    types = getattr(base, "type_annotation_map", None)
    own = base.__dict__.get("registry")
    if own is None:
        own = registry(metadata=base.__dict__.get("metadata"), type_annotation_map=types)
        type.__setattr__(base, "registry", own)
    elif types:
        own.update_type_annotation_map(types)
    if "metadata" not in base.__dict__:
        type.__setattr__(base, "metadata", own.metadata)
    if base.__init__ is object.__init__:
        type.__setattr__(base, "__init__", construct)
