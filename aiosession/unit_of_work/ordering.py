"""Decide the order of things that require one another.

Pure graph work: takes nodes and what each requires, knows nothing of rows, tables or SQL. Results depend only on the
order in which nodes are given, so the same work always gives the same statements.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

N = TypeVar("N", bound=Hashable)

Requirements = Mapping[N, Iterable[N]]
"""For each node the nodes that come before it; nodes outside the graph are ignored."""


@dataclass(frozen=True, slots=True)
class Layers(Generic[N]):
    """Nodes in layers, each requiring nodes of earlier layers only, and a cycle if there is one.

    ``cycle`` is empty, or a path on which every node requires the next one and the last requires the first.
    """

    layers: list[list[N]]
    cycle: tuple[N, ...]


def layered(nodes: Sequence[N], requires: Requirements[N]) -> Layers[N]:
    """Put *nodes* in as few layers as possible; within a layer they keep the order in which they were given."""
    position = {node: place for place, node in enumerate(nodes)}
    waiting: dict[N, int] = dict.fromkeys(nodes, 0)
    unlocks: dict[N, list[N]] = {}
    for node in nodes:
        for required in set(requires.get(node, ())):
            if required in position:
                unlocks.setdefault(required, []).append(node)
                waiting[node] += 1
    layers: list[list[N]] = []
    layer = [node for node in nodes if not waiting[node]]
    while layer:
        layers.append(layer)
        layer = _next_layer(layer, unlocks, waiting, position)
    stuck = [node for node in nodes if waiting[node]]
    return Layers(layers, _cycle_among(stuck, requires) if stuck else ())


def _next_layer(
    layer: list[N], unlocks: Mapping[N, list[N]], waiting: dict[N, int], position: Mapping[N, int]
) -> list[N]:
    """Return what can follow *layer*, counting down what each node still waits for."""
    ready: list[N] = []
    for done in layer:
        for node in unlocks.get(done, ()):
            waiting[node] -= 1
            if not waiting[node]:
                ready.append(node)
    return sorted(ready, key=position.__getitem__)


def _cycle_among(stuck: Sequence[N], requires: Requirements[N]) -> tuple[N, ...]:
    """Return one cycle among nodes each of which requires another one of them, directly or not, or itself."""
    members = set(stuck)
    order = {node: place for place, node in enumerate(stuck)}
    path: dict[N, int] = {}
    node = stuck[0]
    while node not in path:
        path[node] = len(path)
        node = min((required for required in requires[node] if required in members), key=order.__getitem__)
    return tuple(path)[path[node] :]


def components(nodes: Sequence[N], requires: Requirements[N]) -> list[tuple[N, ...]]:
    """Group *nodes* that require each other; groups come in an order in which each requires earlier groups only."""
    search = _Search(nodes, requires)
    for node in nodes:
        if node not in search.number:
            search.visit(node)
    return search.found


class _Search(Generic[N]):
    """One depth-first search for strongly connected components, without recursion."""

    def __init__(self, nodes: Sequence[N], requires: Requirements[N]) -> None:
        self.order = {node: place for place, node in enumerate(nodes)}
        self.requires = requires
        self.number: dict[N, int] = {}
        self.lowest: dict[N, int] = {}
        self.open: dict[N, None] = {}
        self.found: list[tuple[N, ...]] = []

    def visit(self, start: N) -> None:
        """Find all components that *start* can reach."""
        trail = [(start, self._enter(start))]
        while trail:
            node, pending = trail[-1]
            if pending:
                self._step(node, pending.pop(), trail)
                continue
            trail.pop()
            if trail:
                self._lower(trail[-1][0], self.lowest[node])
            if self.lowest[node] == self.number[node]:
                self._close(node)

    def _enter(self, node: N) -> list[N]:
        self.number[node] = self.lowest[node] = len(self.number)
        self.open[node] = None
        known = {required for required in self.requires.get(node, ()) if required in self.order}
        return sorted(known, key=self.order.__getitem__, reverse=True)

    def _step(self, node: N, required: N, trail: list[tuple[N, list[N]]]) -> None:
        if required not in self.number:
            trail.append((required, self._enter(required)))
        elif required in self.open:
            self._lower(node, self.number[required])

    def _lower(self, node: N, bound: int) -> None:
        self.lowest[node] = min(self.lowest[node], bound)

    def _close(self, root: N) -> None:
        members: list[N] = []
        while True:
            member, _ = self.open.popitem()
            members.append(member)
            if member == root:
                break
        self.found.append(tuple(sorted(members, key=self.order.__getitem__)))
