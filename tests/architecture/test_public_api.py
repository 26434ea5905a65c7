"""The public names are agreed on: adding or removing one is a decision."""

import ast
import inspect
import textwrap

import pytest

import aiosession
from aiosession import errors

PUBLIC = [
    "AioSessionError",
    "ArgumentError",
    "AsyncAttrs",
    "AsyncConnection",
    "AsyncEngine",
    "AsyncMappingResult",
    "AsyncResult",
    "AsyncScalarResult",
    "AsyncSession",
    "AsyncSessionTransaction",
    "AsyncTransaction",
    "AsyncTwoPhaseTransaction",
    "Attempt",
    "Batch",
    "CheckViolationError",
    "CircularDependencyError",
    "CommitOutcomeUnknownError",
    "ConcurrentUseError",
    "DataError",
    "DatabaseError",
    "DeadlockError",
    "DeclarativeBase",
    "DisconnectError",
    "EngineRegistry",
    "EngineStatus",
    "Explanation",
    "FailedAttempt",
    "FlushError",
    "FlushPlan",
    "ForeignKeyViolationError",
    "Freshness",
    "Generated",
    "History",
    "InDoubt",
    "InDoubtError",
    "InstanceState",
    "InstrumentedAttribute",
    "IntegrityError",
    "InternalError",
    "InvalidRequestError",
    "Lifecycle",
    "Load",
    "LockNotAvailableError",
    "Mapped",
    "MappedAsDataclass",
    "Mapper",
    "MappingError",
    "MappingResult",
    "MultipleResultsFound",
    "NoResultFound",
    "NotLoadedError",
    "NotNullViolationError",
    "NotSupportedError",
    "ORMExecuteState",
    "ObjectNotFoundError",
    "Operation",
    "OperationalError",
    "OverlappingRelationshipsWarning",
    "PartialCommitError",
    "PendingRollbackError",
    "PlannedRow",
    "PoolTimeoutError",
    "ProgrammingError",
    "Query",
    "Reason",
    "ReentrantUseError",
    "ReplicaStatus",
    "ReplicatedEngine",
    "ResourceClosedError",
    "Result",
    "Retrying",
    "Row",
    "RowMapping",
    "ScalarResult",
    "SerializationError",
    "SessionStatistics",
    "SessionTransactionOrigin",
    "StaleDataError",
    "StaleVersionError",
    "StatementTimeoutError",
    "TwoPhase",
    "UnboundExecutionError",
    "UniqueViolationError",
    "UnknownAttributeError",
    "UnmappedError",
    "Why",
    "WrongEventLoopError",
    "aliased",
    "async_scoped_session",
    "async_sessionmaker",
    "attribute_keyed_dict",
    "attributes",
    "backref",
    "close_all_sessions",
    "column_keyed_dict",
    "column_property",
    "configure_mappers",
    "contains_eager",
    "create_async_engine",
    "create_replicated_engine",
    "deadline",
    "decision_table",
    "declared_attr",
    "defaultload",
    "defer",
    "deferred",
    "foreign",
    "identity_key",
    "immediateload",
    "inspect",
    "joinedload",
    "keyfunc_mapping",
    "lazyload",
    "load_only",
    "make_transient",
    "make_transient_to_detached",
    "mapped_column",
    "object_session",
    "raiseload",
    "recover",
    "recovery",
    "registry",
    "relationship",
    "remote",
    "selectinload",
    "subqueryload",
    "undefer",
    "undefer_group",
    "validates",
    "was_deleted",
    "with_loader_criteria",
    "with_parent",
]


def test_all_is_the_agreed_list() -> None:
    assert aiosession.__all__ == PUBLIC


def test_the_list_is_sorted_and_has_no_doubles() -> None:
    assert sorted(set(PUBLIC)) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist_and_explain_themselves(name: str) -> None:
    assert inspect.getdoc(getattr(aiosession, name))


def test_every_error_can_be_caught_by_a_public_name() -> None:
    tree = {
        name for name, found in vars(errors).items() if isinstance(found, type) and found.__module__ == errors.__name__
    }

    assert tree <= set(PUBLIC)


def test_public_methods_of_a_session_are_short() -> None:
    long = [
        name
        for name, method in vars(aiosession.AsyncSession).items()
        if inspect.isfunction(method) and name != "__init__" and statements(method) > 10
    ]

    assert not long


def statements(function: object) -> int:

    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))  # type: ignore[arg-type]
    return sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) - 2  # itself and its docstring
