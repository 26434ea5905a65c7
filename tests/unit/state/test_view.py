import pytest
from typing_extensions import override

from aiosession.errors import ArgumentError
from aiosession.state.attributes import set_committed_value
from aiosession.state.state import state_of
from aiosession.state.values import NO_VALUE, is_same
from aiosession.state.view import InstanceState
from aiosession.state.workspace import Workspace, workspace_of
from tests.unit.state.state_model import Author, Book, Session, flush, load


def test_the_five_states_are_seen(workspace: Workspace) -> None:
    author = Author(name="a")
    view = InstanceState(author)
    seen = []

    def look() -> None:
        seen.append(
            [name for name in ("transient", "pending", "persistent", "deleted", "detached") if getattr(view, name)]
        )

    look()
    workspace.add(author)
    look()
    flush(workspace)
    look()
    workspace.mark_deleted(state_of(author))
    flush(workspace)
    look()
    workspace.commit_frames()
    look()

    assert seen == [["transient"], ["pending"], ["persistent"], ["deleted"], ["detached"]]


def test_identity_and_session_are_seen(workspace: Workspace, session: Session) -> None:
    author = load(workspace, Author, 1, name="a")
    view, other = InstanceState(author), InstanceState(Author())

    assert view.key == (Author, (1,), None)
    assert (view.identity, view.identity_token, view.has_identity) == ((1,), None, True)
    assert (other.key, other.identity, other.identity_token, other.has_identity) == (None, None, None, False)
    assert view.session is session
    assert other.session is None
    assert view.object is author
    assert view.mapper is Author.__mapper__
    assert repr(view) == "<InstanceState Author(1), persistent>"


def test_attributes_are_seen_without_loading_or_changing_them(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    view = InstanceState(author)
    author.name = "b"

    assert view.attrs.name.value == "b"
    assert view.attrs.name.loaded_value == "b"
    assert view.attrs.name.history == (("b",), (), ("a",))
    assert view.attrs["books"].loaded_value is NO_VALUE
    assert view.attrs.name.attribute is Author.__mapper__.attributes["name"]
    assert view.unloaded == {"books", "profile", "notes"}
    assert view.dict == {"id": 1, "name": "b"}
    assert view.modified
    assert "books" not in author.__dict__
    assert set(view.attrs) == {"id", "name", "books", "profile", "notes"}
    assert len(view.attrs) == 5
    assert "name" in repr(view.attrs.name)


def test_staleness_is_seen(workspace: Workspace) -> None:
    author = load(workspace, Author, 1, name="a")
    view = InstanceState(author)
    assert view.expired_attributes == set()

    workspace.expire(state_of(author), ["name"])
    assert view.expired_attributes == {"name"}
    assert view.attrs.name.is_stale

    workspace.commit_frames()
    assert view.expired_attributes == set(view.attrs)


def test_a_wrong_name_is_refused() -> None:
    view = InstanceState(Author())

    with pytest.raises(ArgumentError, match="did you mean 'name'"):
        _ = view.attrs.nam
    with pytest.raises(KeyError):
        view.attrs["nam"]
    with pytest.raises(AttributeError):
        _ = view.attrs.__wrapped__


def test_an_empty_collection_is_no_modification(workspace: Workspace) -> None:
    book = load(workspace, Book, 1)
    set_committed_value(book, "tags", [])

    assert not InstanceState(book).modified
    assert workspace_of(book) is workspace
    assert workspace_of(object()) is None


def test_values_whose_comparison_fails_are_different() -> None:
    class Awkward:
        @override
        def __eq__(self, other: object) -> bool:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]  # as a class with __eq__ has it

    one = Awkward()

    assert is_same(one, one)
    assert not is_same(one, Awkward())
    assert not is_same(NO_VALUE, None)
    assert is_same(1, 1.0)
    assert repr(NO_VALUE) == "NO_VALUE"
    assert not NO_VALUE
