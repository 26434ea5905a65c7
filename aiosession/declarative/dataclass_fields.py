"""Make a real dataclass of a class that is being mapped."""

import dataclasses
from typing import Any

from aiosession.declarative.annotations import annotations_of
from aiosession.declarative.mapped import Declaration
from aiosession.declarative.scan import Scan
from aiosession.errors import MappingError

DATACLASS_OPTIONS = "__dataclass_options__"


def make_dataclass(class_: type[Any], scan: Scan, options: dict[str, Any]) -> None:
    """Turn *class_* into a dataclass whose fields are its annotated attributes, those of mixins first."""
    own = annotations_of(class_)
    wanted = {name: annotation for name in scan.order if (annotation := _annotation(scan, name)) is not None}
    for name in wanted:
        declaration = scan.attributes.get(name)
        if declaration is not None:
            _set_field(class_, name, declaration)
    class_.__annotations__ = wanted
    try:
        dataclasses.dataclass(**options)(class_)
    except (TypeError, ValueError) as error:
        raise MappingError(f"class {class_.__name__} cannot be a dataclass: {error}") from error
    finally:
        class_.__annotations__ = dict(own)


def _annotation(scan: Scan, name: str) -> object | None:
    mapped = scan.types.get(name)
    if mapped is not None:
        inner = mapped.inner if mapped.annotated is None else mapped.annotated
        return f"{inner} | None" if mapped.is_optional else inner
    return scan.plain.get(name)


def _set_field(class_: type[Any], name: str, declaration: Declaration[Any]) -> None:
    arguments = declaration.dataclass_options.field_arguments()
    if arguments:
        type.__setattr__(class_, name, dataclasses.field(**arguments))
    elif name in class_.__dict__:
        type.__delattr__(class_, name)
