import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosession.state.lifecycle import LEGAL_MOVES, IllegalMoveError, Lifecycle, advance


@pytest.mark.parametrize(("current", "wanted"), list(itertools.product(Lifecycle, repeat=2)))
def test_only_moves_of_the_table_are_possible(current: Lifecycle, wanted: Lifecycle) -> None:
    if wanted in LEGAL_MOVES[current]:
        assert advance(current, wanted) is wanted
        return
    with pytest.raises(IllegalMoveError, match=f"{current.value} cannot become {wanted.value}") as caught:
        advance(current, wanted)
    assert (caught.value.current, caught.value.wanted) == (current, wanted)


@given(st.lists(st.sampled_from(Lifecycle)))
def test_no_sequence_of_attempts_leaves_the_table(attempts: list[Lifecycle]) -> None:
    current = Lifecycle.TRANSIENT
    for wanted in attempts:
        before = current
        try:
            current = advance(current, wanted)
        except IllegalMoveError:
            assert current is before
        else:
            assert current in LEGAL_MOVES[before]


def test_every_state_can_be_reached_and_left() -> None:
    reached = set().union(*LEGAL_MOVES.values())

    assert reached == set(Lifecycle)
    assert all(LEGAL_MOVES[state] for state in Lifecycle)
