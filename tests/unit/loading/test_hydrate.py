"""Rows become objects; objects in memory are brought up to date and never lose changes."""

from typing import Any

import pytest
from sqlalchemy import ForeignKey

from aiosession import DeclarativeBase, Mapped, mapped_column
from aiosession.loading.attach import hydrate
from aiosession.loading.hydrate import EntityLoader, EntitySlots, LoadRun, entity_loader
from aiosession.loading.shapes import columns_shape, plain_shape
from aiosession.state.lifecycle import PERSISTENT
from aiosession.state.state import state_of
from aiosession.state.workspace import Workspace


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    note: Mapped[str | None]


class Part(Base):
    __tablename__ = "part"
    thing_id: Mapped[int] = mapped_column(ForeignKey("thing.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)


def loader(*processors: Any, offset: int = 0, names: tuple[str, ...] | None = None) -> EntityLoader:
    """Return the loader of things in rows that begin with *offset* other columns."""
    mapper = Thing.__mapper__
    shape = plain_shape(mapper) if names is None else columns_shape(mapper, names)
    width = offset + len(shape.columns)
    given = [*processors, *[None] * (width - len(processors))]
    return entity_loader(EntitySlots(shape, tuple(range(offset, width))), given)


@pytest.fixture
def workspace() -> Workspace:
    return Workspace()


def test_a_new_row_is_a_persistent_object(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(), [(1, "a", None)], LoadRun(workspace))

    state = state_of(thing)
    assert (thing.id, thing.name, thing.note) == (1, "a", None)
    assert (state.lifecycle, state.key, state.workspace) == (PERSISTENT, (Thing, (1,), None), workspace)
    assert workspace.identity_map.get((Thing, (1,), None)) is thing


def test_one_row_is_one_object(workspace: Workspace) -> None:
    first, again = hydrate(loader(), [(1, "a", None), (1, "a", None)], LoadRun(workspace))

    assert first is again
    group = state_of(first).group
    assert group is not None
    assert group.states == [state_of(first)]


def test_objects_of_one_result_are_siblings(workspace: Workspace) -> None:
    things = hydrate(loader(), [(1, "a", None), (2, "b", None)], LoadRun(workspace))

    assert state_of(things[0]).group is state_of(things[1]).group


def test_a_row_without_a_key_is_no_object(workspace: Workspace) -> None:
    assert hydrate(loader(), [(None, None, None)], LoadRun(workspace)) == [None]


def test_values_are_converted_where_needed(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(None, str.upper), [(1, "a", None)], LoadRun(workspace))

    assert thing.name == "A"


def test_columns_are_found_behind_others(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(offset=2), [("x", "y", 1, "a", None)], LoadRun(workspace))

    assert (thing.id, thing.name) == (1, "a")


def test_composite_keys_are_tuples(workspace: Workspace) -> None:
    shape = plain_shape(Part.__mapper__)
    (part,) = hydrate(entity_loader(EntitySlots(shape, (1, 0)), [None, None]), [(5, 3)], LoadRun(workspace))

    assert state_of(part).key == (Part, (3, 5), None)


def test_a_fresh_object_keeps_its_values(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(), [(1, "a", None)], LoadRun(workspace))

    hydrate(loader(), [(1, "b", None)], LoadRun(workspace))

    assert thing.name == "a"


def test_a_stale_object_takes_the_rows_values(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(), [(1, "a", None)], LoadRun(workspace))
    workspace.commit_frames()

    hydrate(loader(), [(1, "b", "n")], LoadRun(workspace))

    assert (thing.name, thing.note) == ("b", "n")
    assert state_of(thing).epoch == workspace.epoch


def test_what_a_row_does_not_have_stays_stale(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(), [(1, "a", "n")], LoadRun(workspace))
    workspace.commit_frames()

    hydrate(loader(names=("name",)), [(1, "b")], LoadRun(workspace))

    assert (thing.name, thing.note) == ("b", "n")
    assert state_of(thing).expired == {"note"}


def test_changes_in_memory_stay(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(), [(1, "a", None)], LoadRun(workspace))
    workspace.commit_frames()
    thing.name = "mine"

    hydrate(loader(), [(1, "b", "n")], LoadRun(workspace))

    assert (thing.name, thing.note) == ("mine", "n")
    assert thing in workspace.dirty.values()


def test_overwriting_throws_changes_away(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(), [(1, "a", None)], LoadRun(workspace))
    thing.name = "mine"

    hydrate(loader(), [(1, "b", None)], LoadRun(workspace, overwrite=True))

    assert thing.name == "b"
    assert not workspace.dirty


def test_a_locked_row_is_newer_than_memory(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(), [(1, "a", None)], LoadRun(workspace))
    thing.note = "mine"

    hydrate(loader(), [(1, "b", "theirs")], LoadRun(workspace, reread=True))

    assert (thing.name, thing.note) == ("b", "mine")


def test_missing_columns_fill_in(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(names=("name",)), [(1, "a")], LoadRun(workspace))

    hydrate(loader(), [(1, "other", "n")], LoadRun(workspace))

    assert (thing.name, thing.note) == ("a", "n")


def test_expired_attributes_are_read_again(workspace: Workspace) -> None:
    (thing,) = hydrate(loader(), [(1, "a", "n")], LoadRun(workspace))
    workspace.expire(state_of(thing), ["name"])

    hydrate(loader(), [(1, "b", "m")], LoadRun(workspace))

    assert (thing.name, thing.note) == ("b", "n")
    assert not state_of(thing).expired


def test_values_put_out_of_reach_come_back() -> None:
    workspace = Workspace(stale_reads="raise")
    (thing,) = hydrate(loader(), [(1, "a", "n")], LoadRun(workspace))
    workspace.commit_frames()

    hydrate(loader(names=("name",)), [(1, "b")], LoadRun(workspace))

    assert thing.name == "b"
    assert state_of(thing).parked == {"note": "n"}
    hydrate(loader(), [(1, "b", "m")], LoadRun(workspace))
    assert thing.note == "m"


def test_an_object_that_is_gone_is_made_anew(workspace: Workspace) -> None:
    hydrate(loader(), [(1, "a", None)], LoadRun(workspace))

    (thing,) = hydrate(loader(), [(1, "b", None)], LoadRun(workspace))

    assert thing.name == "b"


def test_identity_tokens_keep_rows_apart(workspace: Workspace) -> None:
    (first,) = hydrate(loader(), [(1, "a", None)], LoadRun(workspace, token="east"))
    (second,) = hydrate(loader(), [(1, "b", None)], LoadRun(workspace, token="west"))

    assert first is not second


def test_a_large_result_leaves_the_collector_as_it_was(workspace: Workspace) -> None:
    things = hydrate(loader(), [(number, "x", None) for number in range(200)], LoadRun(workspace))

    assert len({id(thing) for thing in things}) == 200
