"""What every driver must do, as cases that any test runner can run: ``await case(driver)`` for each of `CASES`.

A driver is made for an empty database in which its user may create tables. A case cleans up behind itself and raises
`AssertionError` if the driver does not conform. Tables are made with SQL that all databases understand.
"""

from aiosession.testing.conformance import (  # noqa: F401 - each adds its cases
    connections,
    statements,
    transactions,
    two_phase,
)
from aiosession.testing.conformance.kit import (
    CASES,
    FAULTS,
    Case,
    Fault,
    connected,
    failure,
    names,
    sql_for,
    status,
    table,
)

__all__ = ["CASES", "FAULTS", "Case", "Fault", "connected", "failure", "names", "sql_for", "status", "table"]
