"""Remember which objects came from the same result, so that what one of them lacks is loaded for all at once."""

from typing import Generic, TypeVar

S = TypeVar("S")


class LoadGroup(Generic[S]):
    """The states of one entity that one result loaded.

    States are weak references to their objects, so that a group keeps no object alive.
    """

    __slots__ = ("__weakref__", "criteria", "states")

    def __init__(self, states: list[S] | None = None) -> None:
        self.states: list[S] = [] if states is None else states
        self.criteria: tuple[object, ...] = ()
        """What the statement demanded of related rows, to hold for what is loaded later as well."""
