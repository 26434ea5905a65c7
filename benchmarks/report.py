"""How does one see it? A table for the terminal, and one for a document."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.operations import Operation
from benchmarks.runner import Measured

BASE = "raw driver"


def cells(measured: Measured, operation: Operation, names: Sequence[str], separator: str) -> Iterator[str]:
    """Describe one operation, contender by contender: time, ratio to the bare driver, round trips."""
    base = measured.seconds(operation, BASE) if BASE in names else None
    for name in names:
        seconds = measured.seconds(operation, name)
        parts = [milliseconds(seconds)]
        if base is not None and name != BASE:
            parts.append(f"{seconds / base:.1f}x")
        trips = measured.round_trips.get((operation.key, name))
        if trips is not None:
            parts.append(f"{trips} ⇄")
        yield separator.join(parts)


def milliseconds(seconds: float) -> str:
    """Write a duration with three digits."""
    value = seconds * 1000
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms" if value >= 10 else f"{value:.2f} ms"


def show(console: Console, measured: Measured, todo: Sequence[Operation], names: Sequence[str], title: str) -> None:
    """Print the table."""
    table = Table(title=title, caption="median time of one call · time ÷ raw driver · ⇄ round trips on the wire")
    table.add_column("operation")
    for name in names:
        table.add_column(name, justify="right")
    for operation in todo:
        table.add_row(operation.title, *cells(measured, operation, names, "\n"), end_section=True)
    console.print(table)


def markdown(measured: Measured, todo: Sequence[Operation], names: Sequence[str]) -> str:
    """Write the table for a document."""
    lines = [f"| operation | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    lines += [f"| {item.title} | {' | '.join(cells(measured, item, names, '<br>'))} |" for item in todo]
    return "\n".join(lines)
