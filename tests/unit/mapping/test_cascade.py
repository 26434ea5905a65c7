"""Cascades are read from text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiosession.errors import ArgumentError
from aiosession.mapping.cascade import Cascade

WORDS = {
    "save-update": Cascade.SAVE_UPDATE,
    "merge": Cascade.MERGE,
    "refresh-expire": Cascade.REFRESH_EXPIRE,
    "expunge": Cascade.EXPUNGE,
    "delete": Cascade.DELETE,
    "delete-orphan": Cascade.DELETE_ORPHAN,
}


@given(st.lists(st.sampled_from(sorted(WORDS))), st.sampled_from([",", ", ", " , "]))
def test_words_add_up_in_any_order(words: list[str], separator: str) -> None:
    expected = Cascade.NONE
    for word in words:
        expected |= WORDS[word]

    assert Cascade.parse(separator.join(words)) == expected
    assert Cascade.parse(words) == expected


def test_all_is_everything_but_delete_orphan() -> None:
    assert Cascade.parse("all") == ~Cascade.DELETE_ORPHAN
    assert Cascade.DELETE_ORPHAN in Cascade.parse("all, delete-orphan")


def test_a_misspelt_word_is_answered_with_the_right_one() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'delete-orphan'"):
        Cascade.parse("all, delete-orphans")
