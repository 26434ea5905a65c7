"""Declare relations: ``relationship()`` and ``backref()``."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, TypeVar, get_args

from typing_extensions import override

from aiosession.declarative.mapped import UNSET, DataclassOptions, Declaration, Unset
from aiosession.errors import ArgumentError, near
from aiosession.mapping.backrefs import check_options
from aiosession.mapping.cascade import Cascade
from aiosession.mapping.relationships import BackrefArguments, LazyStrategy, RelationshipArguments

T = TypeVar("T")

_LAZY: Final[dict[object, LazyStrategy]] = {
    **{name: name for name in get_args(LazyStrategy)},
    True: "select",
    False: "joined",
    None: "noload",
}


class RelationshipDeclaration(Declaration[T]):
    """The declaration of a relation."""

    __slots__ = ("arguments",)

    def __init__(self, arguments: RelationshipArguments, dataclass_options: DataclassOptions) -> None:
        super().__init__(dataclass_options)
        self.arguments = arguments

    @override
    def copy(self) -> "RelationshipDeclaration[T]":
        """Return the declaration with arguments of its own."""
        return RelationshipDeclaration(replace(self.arguments), self.dataclass_options)


def backref(name: str, **options: Any) -> BackrefArguments:
    """Describe the relation to be made on the other side; *options* are those of :func:`relationship`."""
    arguments = BackrefArguments(name, options)
    check_options(arguments)
    return arguments


def relationship(  # noqa: PLR0913 - the arguments that people know
    argument: Any = None,
    secondary: Any = None,
    *,
    uselist: bool | None = None,
    collection_class: Any = None,
    primaryjoin: Any = None,
    secondaryjoin: Any = None,
    back_populates: str | None = None,
    order_by: Any = None,
    backref: str | BackrefArguments | None = None,
    overlaps: str | None = None,
    cascade: str | Iterable[str] | Literal[False] | None = None,
    viewonly: bool = False,
    lazy: LazyStrategy | bool | None = "select",
    passive_deletes: bool | Literal["all"] = False,
    passive_updates: bool = True,
    post_update: bool = False,
    foreign_keys: Any = None,
    remote_side: Any = None,
    single_parent: bool = False,
    innerjoin: bool = False,
    active_history: bool = False,
    info: Mapping[Any, Any] | None = None,
    doc: str | None = None,
    init: bool | Unset = UNSET,
    repr: bool | Unset = UNSET,  # noqa: A002 - the name that dataclasses have
    default: Any = UNSET,
    default_factory: Callable[[], Any] | Unset = UNSET,
    compare: bool | Unset = UNSET,
    kw_only: bool | Unset = UNSET,
    hash: bool | Unset | None = UNSET,  # noqa: A002 - the name that dataclasses have
) -> RelationshipDeclaration[Any]:
    """Declare a relation to another mapped class; the target follows from the annotation if it is not given.

    Strings and callables are resolved when mappers are configured: class names, ``"Address.user_id"``, expressions.
    *cascade* is ``"save-update, merge"`` if it is not given (or False); ``""`` and ``"none"`` are none at all.
    """
    if lazy not in _LAZY:
        raise ArgumentError(f"relationship(lazy={lazy!r}) is not known{near(str(lazy), get_args(LazyStrategy))}")
    arguments = RelationshipArguments(
        argument=argument,
        secondary=secondary,
        uselist=uselist,
        collection_class=collection_class,
        primaryjoin=primaryjoin,
        secondaryjoin=secondaryjoin,
        foreign_keys=foreign_keys,
        remote_side=remote_side,
        order_by=order_by,
        back_populates=back_populates,
        backref=BackrefArguments(backref) if isinstance(backref, str) else backref,
        cascade=None if cascade is None or cascade is False else Cascade.parse(cascade),
        viewonly=viewonly,
        lazy=_LAZY[lazy],
        passive_deletes=passive_deletes,
        passive_updates=passive_updates,
        post_update=post_update,
        single_parent=single_parent,
        innerjoin=innerjoin,
        active_history=active_history,
        overlaps=frozenset((overlaps or "").replace(",", " ").split()),
        info=info or {},
        doc=doc,
    )
    return RelationshipDeclaration(
        arguments, DataclassOptions(init, repr, default, default_factory, compare, kw_only, hash)
    )
