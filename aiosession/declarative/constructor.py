"""Make objects from keywords: the constructor of classes that have none of their own."""

from typing import Any

from aiosession.errors import UnknownAttributeError
from aiosession.mapping.inspection import mapper_of


def construct(self: Any, **values: Any) -> None:
    """Set the attributes given by keyword; unknown names are refused."""
    class_ = type(self)
    mapper = mapper_of(class_)
    for key, value in values.items():
        if key not in mapper.attributes and not hasattr(class_, key):
            raise UnknownAttributeError(class_, key, mapper.attributes)
        setattr(self, key, value)
