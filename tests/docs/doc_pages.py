"""How is a page of documentation run? Its Python blocks, in order, as one script in which ``await`` may stand anywhere.

A block that cannot run says why in a comment on the line before it: ``<!-- not run: needs a server -->``. A block
may tell what it prints in a ``text`` block right after it.
"""

import ast
import contextlib
import inspect
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(
    r"(?P<skip><!-- not run: .+? -->\n)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$\n?", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """One block of code: its text, the line it begins on, and what it is to print, if that is told."""

    code: str
    line: int
    prints: str | None = None


def pages() -> dict[Path, list[Block]]:
    """Return all pages with something to run, and what."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    with_blocks = {page: blocks(page.read_text()) for page in found if "decisions" not in page.parts}
    return {page: some for page, some in with_blocks.items() if some}


def blocks(text: str) -> list[Block]:
    """Return the Python blocks of a page that are to be run."""
    found: list[Block] = []
    end = -1
    for match in _FENCE.finditer(text):
        language, line = match["language"], text.count("\n", 0, match.start("code"))
        if language == "python" and not match["skip"]:
            found.append(Block(match["code"], line))
            end = match.end()
        elif language == "text" and found and not text[end : match.start()].strip():
            found[-1] = Block(found[-1].code, found[-1].line, prints=match["code"])
    return found


@contextlib.contextmanager
def module(name: str) -> Iterator[ModuleType]:
    """Make a module for a page's names; classes defined in it find each other there."""
    made = sys.modules[name] = ModuleType(name)
    try:
        yield made
    finally:
        del sys.modules[name]


async def run(page: Path, found: Sequence[Block]) -> None:
    """Run the blocks of a page and compare what each prints with what the page says it prints."""
    with module(f"docs_{page.stem.replace('-', '_')}") as names:
        for block in found:
            printed = await run_block(block, page, names)
            if block.prints is not None:
                assert tidy(printed) == tidy(block.prints), f"{page.name}, line {block.line}"


async def run_block(block: Block, page: Path, names: ModuleType) -> str:
    """Run one block and return what it prints."""
    padded = "\n" * block.line + block.code
    code = compile(padded, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        waiting = eval(code, names.__dict__)
        if inspect.iscoroutine(waiting):
            await waiting
    return output.getvalue()


def tidy(text: str) -> str:
    """Leave out what does not show."""
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
