"""How is it measured? All contenders take turns at every operation; first each has to show that it does it right."""

import gc
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from benchmarks.contender import Contender
from benchmarks.operations import Operation
from benchmarks.proxy import RoundTrips
from benchmarks.tables import Tables

WARM_UP = 2


@dataclass
class Measured:
    """What a run has found, by the keys of operations and the names of contenders."""

    samples: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    round_trips: dict[tuple[str, str], int] = field(default_factory=dict)

    def seconds(self, operation: Operation, contender: str) -> float:
        """Return the median time of one call."""
        return median(self.samples[operation.key, contender])


class WrongResultError(Exception):
    """A contender did not do what the operation asks for."""


@asynccontextmanager
async def opened(contenders: Sequence[Contender]) -> AsyncIterator[None]:
    """Open all contenders, and close them at the end."""
    async with AsyncExitStack() as stack:
        for contender in contenders:
            await contender.open()
            stack.push_async_callback(contender.close)
        yield


async def verify(contender: Contender, operation: Operation, tables: Tables) -> None:
    """Run an operation once and look at its answer and at the tables, which are left as they were."""
    before = await tables.totals()
    answer = await operation.run(contender, 1)
    after = await tables.totals()
    grown = tuple(new - old for new, old in zip(after, before, strict=True))
    ages_matter = operation.change[0] == 0
    expected = operation.change if ages_matter else (*operation.change[:2], grown[2])
    if not operation.answer(answer) or grown != expected:
        raise WrongResultError(f"{contender.name}, {operation.title}: answered {answer!r:.80}, changed rows by {grown}")
    if operation.writes:
        await tables.reset()


async def measure(
    contenders: Sequence[Contender],
    todo: Sequence[Operation],
    tables: Tables,
    *,
    rounds: int,
    measured: Measured,
    tick: Callable[[], None],
) -> None:
    """Time every operation with every contender, *rounds* times, in turns that begin with another one each round."""
    for contender in contenders:
        for operation in todo:
            for _ in range(WARM_UP):
                await verify(contender, operation, tables)
    for turn in range(rounds):
        order = [*contenders[turn % len(contenders) :], *contenders[: turn % len(contenders)]]
        for operation in todo:
            for contender in order:
                measured.samples[operation.key, contender.name].append(await sample(contender, operation, turn))
                if operation.writes:
                    await tables.reset()
                tick()


async def sample(contender: Contender, operation: Operation, turn: int) -> float:
    """Return the seconds of one call, the mean of the operation's repeats."""
    first = turn * operation.repeat
    gc.collect()
    began = perf_counter()
    for number in range(first, first + operation.repeat):
        await operation.run(contender, number)
    return (perf_counter() - began) / operation.repeat


async def count_round_trips(
    contender: Contender, todo: Sequence[Operation], tables: Tables, totals: RoundTrips, measured: Measured
) -> None:
    """Count what one call of every operation sends, once everything is warm."""
    for operation in todo:
        for _ in range(WARM_UP):
            await verify(contender, operation, tables)
        totals.reset()
        await operation.run(contender, 1)
        measured.round_trips[operation.key, contender.name] = totals.count
        if operation.writes:
            await tables.reset()
