from collections.abc import Iterator

import pytest

from aiosession.state.workspace import Workspace
from tests.unit.state.state_model import Session


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def workspace(session: Session) -> Iterator[Workspace]:
    workspace = Workspace(session)
    yield workspace
    workspace.clear()
