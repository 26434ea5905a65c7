"""What does the page about coverage say? Its rows, the tests that they name, the names that they mention."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from typing_extensions import override

from tests.docs.doc_pages import ROOT

PAGE = ROOT / "docs" / "coverage.md"
PLANNED = "Planned"
NONE = "—"
HEADER = "| Feature | In aiosession | Test | Note |"

_CODE = re.compile(r"`([^`]+)`")
_NAMED_TEST = re.compile(r"`(?P<path>[^`:]+)::(?P<name>[^`]+)`")


@dataclass(frozen=True)
class NamedTest:
    """A test as a row names it."""

    path: str
    name: str

    @property
    def exists(self) -> bool:
        """Whether there is such a test in such a file."""
        file = ROOT / self.path
        return file.is_file() and self.name in tests_in(file)


@dataclass(frozen=True)
class Line:
    """A row of a table."""

    number: int
    section: str
    feature: str
    calls: str
    test: str
    note: str

    @override
    def __str__(self) -> str:
        return f"line {self.number}, {self.section}: {self.feature}"

    @property
    def is_planned(self) -> bool:
        """Whether the row is about something that is not built yet."""
        return self.section == PLANNED

    @property
    def code(self) -> list[str]:
        """The pieces of code in the column of calls."""
        return _CODE.findall(self.calls)

    @property
    def tests(self) -> list[NamedTest]:
        """The tests that show the behaviour."""
        return [NamedTest(match["path"], match["name"]) for match in _NAMED_TEST.finditer(self.test)]

    @property
    def is_well_formed(self) -> bool:
        """Whether the column of tests holds nothing but tests, or says that there is none."""
        return self.test == NONE or (bool(self.tests) and not _NAMED_TEST.sub("", self.test).strip())


def lines(text: str) -> Iterator[Line]:
    """Yield the rows of all tables of a page."""
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            section = line.lstrip("# ")
        elif line.startswith("|") and line != HEADER and not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            if len(cells) != HEADER.count("|") - 1:
                raise ValueError(f"line {number} has {len(cells)} cells")
            yield Line(number, section, *cells)


@cache
def tests_in(file: Path) -> frozenset[str]:
    """Return the tests of a file, those of a class as ``TestThat::test_this``."""
    nodes = ast.parse(file.read_text()).body
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    methods = {f"{each.name}::{name}" for each in classes for name in _functions(each.body)}
    return frozenset({*_functions(nodes), *methods})


def _functions(nodes: Iterable[ast.stmt]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name
