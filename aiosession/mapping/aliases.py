"""Let one class stand several times in a statement: ``aliased(User)``."""

from typing import Any, TypeVar, cast

from sqlalchemy import FromClause
from typing_extensions import override

from aiosession.errors import near
from aiosession.mapping.expressions import expression_of
from aiosession.mapping.inspection import mapper_of
from aiosession.mapping.mapper import AliasRef, AnyMapper, EntityRef, Mapper

T = TypeVar("T")


class AliasedClass:
    """An alias of a mapped class; has the attributes of the class, which mean the alias in statements."""

    __entity_ref__: EntityRef

    def __init__(self, class_: type[Any] | AnyMapper, selectable: FromClause | None, name: str | None) -> None:
        mapper = mapper_of(class_)
        self.__entity_ref__ = AliasRef(
            mapper, mapper.table.alias(name) if selectable is None else selectable, self, name
        )

    def __clause_element__(self) -> FromClause:
        return self.__entity_ref__.element

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        mapper = self.__entity_ref__.mapper
        attribute = mapper.attributes.get(name)
        if attribute is None:
            raise AttributeError(f"alias of {mapper.name} has no attribute {name!r}{near(name, mapper.attributes)}")
        expression = expression_of(self.__entity_ref__, attribute)
        self.__dict__[name] = expression
        return expression

    @override
    def __repr__(self) -> str:
        return f"<{self.__entity_ref__!r}>"


def aliased(
    element: type[T] | Mapper[T], alias: FromClause | None = None, *, name: str | None = None, flat: bool = False
) -> type[T]:
    """Return an alias of the mapped class *element*, to use in statements in its place.

    *alias* is a subquery or CTE to take the rows from, in place of the table. *flat* makes no difference as long as
    each class has one table.
    """
    selectable = alias.alias(name) if alias is not None and name is not None else alias
    return cast("type[T]", AliasedClass(element, selectable, name))
