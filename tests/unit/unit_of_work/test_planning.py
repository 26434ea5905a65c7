from collections.abc import Sequence
from typing import Any

import pytest

from aiosession.errors import DataError, FlushError
from aiosession.mapping.mapper import Relationship
from aiosession.sql.writes import WriteKind
from aiosession.state.state import EntityState, state_of
from aiosession.state.workspace import Workspace
from aiosession.unit_of_work.plan import FlushPlan, Generated, Why
from aiosession.unit_of_work.planning import make_plan
from aiosession.unit_of_work.worklist import Worklist, gather
from tests.behaviour.flush_model import Club, Department, Letter, Node, Person, Pet, Shelf, Toy, Worker


async def _load_nothing(states: Sequence[EntityState], relationship: Relationship) -> None:
    raise AssertionError(f"{relationship} was to be loaded for {states}")


def _worklist(workspace: Workspace, load: Any = _load_nothing) -> Worklist:
    """Gather without an event loop: nothing here waits."""
    gathering = gather(workspace, load)
    with pytest.raises(StopIteration) as end:
        gathering.send(None)
    work: Worklist = end.value.value
    return work


def _plan(workspace: Workspace, load: Any = _load_nothing) -> FlushPlan:
    return make_plan(_worklist(workspace, load))


def _shape(plan: FlushPlan) -> list[tuple[str, str, int]]:
    return [(batch.kind.value, batch.table.name, batch.count) for batch in plan]


def _persistent(workspace: Workspace, obj: Any, **loaded: Any) -> Any:
    state = state_of(obj)
    for name, value in loaded.items():
        workspace.set_loaded(state, name, value)
    key = tuple(loaded[attribute.key] for attribute in state.mapper.primary_key_attributes)
    workspace.make_persistent(state, state.mapper.identity_key(key))
    return obj


def test_parents_are_planned_before_children_whatever_was_added_first() -> None:
    workspace = Workspace()
    letter = Letter(text="hi")
    letter.writer = Person(name="Ann")
    workspace.add(letter)

    assert _shape(_plan(workspace)) == [("INSERT", "person", 1), ("INSERT", "letter", 1)]


def test_a_key_that_is_not_known_yet_is_stood_for() -> None:
    workspace = Workspace()
    person = Person(name="Ann", letters=[Letter(text="hi")])
    workspace.add(person)

    plan = _plan(workspace)

    (row,) = plan.batches[1].rows
    waiting = row.values["writer_id"]
    assert isinstance(waiting, Generated)
    assert (waiting.state, waiting.attribute) == (state_of(person), "id")
    assert list(plan.awaited) == [state_of(person)]


def test_a_key_that_is_known_is_carried_over_at_once() -> None:
    workspace = Workspace()
    workspace.add(Person(id=7, name="Ann", letters=[Letter(text="hi")]))

    (row,) = _plan(workspace).batches[1].rows

    assert row.values["writer_id"] == 7


def test_rows_with_and_without_keys_go_in_separate_batches() -> None:
    workspace = Workspace()
    for key in (None, 5, None, 6):
        workspace.add(Person(id=key, name="Ann"))

    assert _shape(_plan(workspace)) == [("INSERT", "person", 2), ("INSERT", "person", 2)]


def test_an_unchanged_object_takes_no_part() -> None:
    workspace = Workspace()
    person = _persistent(workspace, Person(), id=1, name="Ann", age=3)

    person.name, person.age = "Ann", 3

    assert _plan(workspace).is_empty


def test_levels_of_a_tree_are_batches() -> None:
    workspace = Workspace()
    workspace.add(Node(name="root", children=[Node(name=f"n{n}", children=[Node(name="leaf")]) for n in range(3)]))

    assert _shape(_plan(workspace)) == [("INSERT", "node", 1), ("INSERT", "node", 3), ("INSERT", "node", 3)]


def test_post_update_comes_after_both_rows() -> None:
    workspace = Workspace()
    department = Department(name="sales")
    department.head = Worker(name="Ann", department=department)
    workspace.add(department)

    plan = _plan(workspace)

    assert [batch.kind for batch in plan] == [WriteKind.INSERT, WriteKind.INSERT, WriteKind.UPDATE]
    assert plan.batches[2].reasons[0].why is Why.POST_UPDATE


def test_a_cascade_asks_for_each_relation_once() -> None:
    workspace = Workspace()
    asked: list[tuple[str, int]] = []

    async def load(states: Sequence[EntityState], relationship: Relationship) -> None:
        asked.append((relationship.key, len(states)))

    people = [_persistent(workspace, Person(), id=n, name="Ann") for n in range(5)]
    for person in people:
        state_of(person).inserted_here = False
        workspace.mark_deleted(state_of(person))

    work = _worklist(workspace, load)

    assert sorted(asked) == [("letters", 5), ("notes", 5), ("passport", 5), ("pets", 5)]
    assert len(work.emptied) == 2


def test_deletes_cascade_over_what_is_in_memory() -> None:
    workspace = Workspace()
    person = _persistent(workspace, Person(), id=1, name="Ann")
    pet = _persistent(workspace, Pet(), id=2, name="Rex", owner_id=1)
    toy = _persistent(workspace, Toy(), id=3, name="ball", pet_id=2)
    for obj in (person, pet, toy):
        state_of(obj).inserted_here = True
    workspace.set_loaded(state_of(person), "pets", [pet])
    workspace.set_loaded(state_of(pet), "toys", [toy])
    workspace.mark_deleted(state_of(person))

    plan = _plan(workspace)

    deletes = [batch for batch in plan if batch.kind is WriteKind.DELETE]
    assert [batch.table.name for batch in deletes][-3:] == ["toy", "pet", "person"]


def test_associations_come_after_both_sides() -> None:
    workspace = Workspace()
    workspace.add(Person(name="Ann", clubs=[Club(name="chess"), Club(name="golf")]))

    assert _shape(_plan(workspace)) == [("INSERT", "person", 1), ("INSERT", "club", 2), ("INSERT", "membership", 2)]


def test_planning_leaves_everything_as_it_was() -> None:
    workspace = Workspace()
    person = Person(name="Ann", letters=[Letter(text="hi")])
    workspace.add(person)
    before = {key: value for key, value in person.__dict__.items() if key != "letters"}

    _plan(workspace)

    assert {key: value for key, value in person.__dict__.items() if key != "letters"} == before
    assert len(workspace.new) == 2


def test_a_value_of_the_wrong_type_is_refused() -> None:
    workspace = Workspace()
    workspace.add(Person(name="Ann", age="old"))

    with pytest.raises(DataError, match=r"Person\.age is a column of type Integer and cannot hold 'old'"):
        _plan(workspace)


def test_a_changed_value_of_the_wrong_type_is_refused() -> None:
    workspace = Workspace()
    person = _persistent(workspace, Person(), id=1, name="Ann", age=3)
    person.name = b"Ann"

    with pytest.raises(DataError, match=r"Person\.name"):
        _plan(workspace)


def test_a_key_nobody_gives_is_missed() -> None:
    workspace = Workspace()
    workspace.add(Shelf(number=1))

    with pytest.raises(FlushError, match="no value for 'room'"):
        _plan(workspace)
