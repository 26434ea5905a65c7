"""Keep what is worked out once per mapped class, as long as its mapping lives."""

from typing import Any

from aiosession.mapping.mapper import AnyMapper


def memo_of(mapper: AnyMapper) -> dict[Any, Any]:
    """Return the notes about a mapped class; they go when the class goes."""
    try:
        memo: dict[Any, Any] = (
            mapper.class_.__aiosession_memo__
        )  # getattr() by name or __dict__ cost three times as much
    except AttributeError:
        return forget_memo(mapper)
    return memo if memo["mapper"] is mapper else forget_memo(mapper)  # else it is a base class's


def forget_memo(mapper: AnyMapper) -> dict[Any, Any]:
    """Start the notes about a class afresh: it has been mapped, or got another attribute."""
    memo: dict[Any, Any] = {"mapper": mapper}
    mapper.class_.__aiosession_memo__ = memo
    return memo
