"""Examine a database, and what leads to it: ``diagnose(engine)``, or ``python -m aiosession doctor URL…``."""

from aiosession.doctor.diagnosing import diagnose
from aiosession.doctor.report import Diagnosis, Finding, Level

__all__ = ["Diagnosis", "Finding", "Level", "diagnose"]
