import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.doc_pages import ROOT, Block, pages, run, tidy

README = ROOT / "README.md"


@pytest.mark.parametrize(
    ("page", "found"),
    [pytest.param(page, found, id=page.stem) for page, found in pages().items() if page != README],
)
async def test_every_block_of_a_page_runs(
    page: Path, found: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    await run(page, found)


@pytest.mark.parametrize("block", pages()[README], ids=lambda block: f"line {block.line}")
def test_examples_of_the_readme_run_as_scripts(block: Block, tmp_path: Path) -> None:
    script = tmp_path / "example.py"
    script.write_text(block.code)

    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert tidy(done.stdout) == tidy(block.prints or "")
