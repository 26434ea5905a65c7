"""The states of a transaction and the moves between them."""

from itertools import product

import pytest

from aiosession.transaction.unit import IllegalTransitionError, TransactionState, advance

LEGAL = {
    ("ACTIVE", "FAILED"),
    ("ACTIVE", "COMMITTED"),
    ("ACTIVE", "ROLLED_BACK"),
    ("ACTIVE", "PREPARED"),
    ("PREPARED", "FAILED"),
    ("PREPARED", "COMMITTED"),
    ("PREPARED", "ROLLED_BACK"),
    ("FAILED", "ROLLED_BACK"),
}


@pytest.mark.parametrize(("current", "wanted"), list(product(TransactionState, repeat=2)))
def test_only_legal_moves_are_made(current: TransactionState, wanted: TransactionState) -> None:
    if (current.name, wanted.name) in LEGAL:
        assert advance(current, wanted) is wanted
    else:
        with pytest.raises(IllegalTransitionError, match=wanted.value):
            advance(current, wanted)
