"""Say by which value a row refers to another row.

Known from memory, decided by this flush, or made by the database when the row is inserted and until then stood for.
"""

from typing import Any

from aiosession.errors import FlushError
from aiosession.state.state import STATE_KEY, EntityState
from aiosession.state.values import NO_VALUE, is_expression
from aiosession.unit_of_work.plan import Generated
from aiosession.unit_of_work.worklist import Worklist, has_new_key


class Keys:
    """The values of referred attributes, for the objects of one flush."""

    __slots__ = ("_decided", "_generated", "_numbers", "followed", "work")

    def __init__(self, work: Worklist) -> None:
        self.work = work
        self.followed: dict[EntityState, dict[str, Any]] = {}
        """What rows get from the database because a key changes to which they refer."""
        self._decided: dict[EntityState, dict[str, object]] = {}
        self._generated: dict[tuple[EntityState, str], Generated] = {}
        self._numbers: dict[EntityState, int] = {}

    def decide(self, state: EntityState, attribute: str, value: object) -> None:
        """Note a value that this flush gives to an attribute."""
        self._decided.setdefault(state, {})[attribute] = value

    def of(self, state: EntityState, attribute: str) -> Any:
        """Return the value by which other rows refer to the row of *state*."""
        decided = self._decided.get(state)
        if decided is not None and attribute in decided:
            return decided[attribute]
        followed = self.followed.get(state)
        if followed is not None and attribute in followed and attribute not in (state.committed or ()):
            return followed[attribute]
        value = state.values().get(attribute, NO_VALUE)
        if state in self.work.inserts:
            is_known = value is not None and value is not NO_VALUE and not is_expression(value)
            return value if is_known else self.generated(state, attribute)
        if value is NO_VALUE:
            return self._of_row(state, attribute)
        return self.generated(state, attribute) if is_expression(value) else value

    def of_object(self, obj: Any, attribute: str) -> Any:
        """Return the value by which other rows refer to the row of *obj*."""
        return self.of(obj.__dict__[STATE_KEY], attribute)

    def generated(self, state: EntityState, attribute: str) -> Generated:
        """Return what stands for a value that the database will make."""
        found = self._generated.get((state, attribute))
        if found is None:
            number = self._numbers.setdefault(state, len(self._numbers) + 1)
            found = self._generated[state, attribute] = Generated(state, attribute, number)
        return found

    @property
    def awaited(self) -> dict[EntityState, list[Generated]]:
        """What stands for values to come, by object."""
        found: dict[EntityState, list[Generated]] = {}
        for generated in self._generated.values():
            found.setdefault(generated.state, []).append(generated)
        return found

    def of_stored(self, state: EntityState, attribute: str) -> Any:
        """Return the value that the row has when its turn comes, whatever was changed in memory."""
        if state in self.followed and attribute in self.followed[state]:
            return self.followed[state][attribute]
        committed = state.committed
        value = NO_VALUE if committed is None else committed.get(attribute, NO_VALUE)
        if value is NO_VALUE:
            value = NO_VALUE if committed and attribute in committed else state.values().get(attribute, NO_VALUE)
        return self._of_row(state, attribute) if value is NO_VALUE else value

    def of_stored_or_none(self, state: EntityState, attribute: str) -> Any:
        """Return what :meth:`of_stored` returns; NO_VALUE where nobody knows."""
        try:
            return self.of_stored(state, attribute)
        except FlushError:
            return NO_VALUE

    def of_saved(self, state: EntityState, attribute: str) -> Any:
        """Return the value that the row has once all rows of the flush are saved."""
        is_moved = state in self.work.updates and has_new_key(state)
        return self.of(state, attribute) if is_moved else self.of_stored(state, attribute)

    def of_match(self, state: EntityState) -> tuple[Any, ...]:
        """Return the primary key by which the row is found."""
        attributes = state.mapper.primary_key_attributes
        if state.key is None:
            return tuple([self.of(state, each.key) for each in attributes])
        followed = self.followed.get(state)
        if followed is None:
            return state.key[1]
        return tuple([followed.get(each.key, value) for each, value in zip(attributes, state.key[1], strict=True)])

    def _of_row(self, state: EntityState, attribute: str) -> Any:
        if state.key is not None:
            for each, value in zip(state.mapper.primary_key_attributes, state.key[1], strict=True):
                if each.key == attribute:
                    return value
        if state.parked is not None and attribute in state.parked:
            return state.parked[attribute]
        raise FlushError(
            f"another row refers to {state.describe()} by {state.mapper.name}.{attribute}, which is not loaded; call "
            f"`await session.refresh(obj, [{attribute!r}])` first"
        )
