"""The unit-of-work session for async Python: the public names.

``errors``, ``events`` and ``testing`` are modules of their own; SQL itself is written with ``sqlalchemy``.
"""

from aiosession.aio import deadline
from aiosession.declarative.base import AsyncAttrs, DeclarativeBase, MappedAsDataclass
from aiosession.declarative.columns import column_property, deferred, mapped_column
from aiosession.declarative.declared import declared_attr
from aiosession.declarative.mapped import Mapped
from aiosession.declarative.registry import registry
from aiosession.declarative.relations import backref, relationship
from aiosession.engine.create import create_async_engine
from aiosession.engine.engine import AsyncConnection, AsyncEngine
from aiosession.engine.explaining import Explanation
from aiosession.engine.registry import EngineRegistry
from aiosession.engine.replicated import ReplicatedEngine, create_replicated_engine
from aiosession.engine.result import MappingResult, Result, ScalarResult
from aiosession.engine.row import Row, RowMapping
from aiosession.engine.status import EngineStatus, ReplicaStatus
from aiosession.engine.streaming import AsyncMappingResult, AsyncResult, AsyncScalarResult
from aiosession.engine.transaction import AsyncTransaction, AsyncTwoPhaseTransaction
from aiosession.errors import (
    AioSessionError,
    ArgumentError,
    CheckViolationError,
    CircularDependencyError,
    CommitOutcomeUnknownError,
    ConcurrentUseError,
    DatabaseError,
    DataError,
    DeadlockError,
    DisconnectError,
    FlushError,
    ForeignKeyViolationError,
    InDoubtError,
    IntegrityError,
    InternalError,
    InvalidRequestError,
    LockNotAvailableError,
    MappingError,
    MultipleResultsFound,
    NoResultFound,
    NotLoadedError,
    NotNullViolationError,
    NotSupportedError,
    ObjectNotFoundError,
    OperationalError,
    PartialCommitError,
    PendingRollbackError,
    PoolTimeoutError,
    ProgrammingError,
    ReentrantUseError,
    ResourceClosedError,
    SerializationError,
    StaleDataError,
    StaleVersionError,
    StatementTimeoutError,
    UnboundExecutionError,
    UniqueViolationError,
    UnknownAttributeError,
    UnmappedError,
    WrongEventLoopError,
)
from aiosession.loading.criteria import with_loader_criteria
from aiosession.loading.options import (
    Load,
    contains_eager,
    defaultload,
    defer,
    immediateload,
    joinedload,
    lazyload,
    load_only,
    raiseload,
    selectinload,
    subqueryload,
    undefer,
    undefer_group,
)
from aiosession.mapping.aliases import aliased
from aiosession.mapping.expressions import InstrumentedAttribute, with_parent
from aiosession.mapping.inspection import configure_mappers
from aiosession.mapping.mapper import Mapper
from aiosession.mapping.overlaps import OverlappingRelationshipsWarning
from aiosession.mapping.sides import foreign, remote
from aiosession.session.closing import close_all_sessions
from aiosession.session.executing import ORMExecuteState
from aiosession.session.handles import AsyncSessionTransaction, SessionTransactionOrigin
from aiosession.session.identity import identity_key
from aiosession.session.inspection import inspect, object_session
from aiosession.session.policy import FailedAttempt
from aiosession.session.query import Query
from aiosession.session.retrying import Attempt, Retrying
from aiosession.session.scoped import async_scoped_session
from aiosession.session.session import AsyncSession
from aiosession.session.sessionmaker import async_sessionmaker
from aiosession.session.statistics import SessionStatistics
from aiosession.state import attributes
from aiosession.state.attribute_events import validates
from aiosession.state.collections import attribute_keyed_dict, column_keyed_dict, keyfunc_mapping
from aiosession.state.history import History
from aiosession.state.lifecycle import Lifecycle
from aiosession.state.transience import make_transient, make_transient_to_detached, was_deleted
from aiosession.state.view import InstanceState
from aiosession.transaction.decisions import decision_table
from aiosession.transaction.freshness import Freshness
from aiosession.transaction.operation import Operation
from aiosession.transaction.recovery import InDoubt, recover, recovery
from aiosession.transaction.two_phase import TwoPhase
from aiosession.unit_of_work.plan import Batch, FlushPlan, Generated, PlannedRow, Reason, Why

__all__ = [
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
