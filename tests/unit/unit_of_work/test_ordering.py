from hypothesis import given
from hypothesis import strategies as st

from aiosession.unit_of_work.ordering import components, layered

Graph = dict[int, list[int]]

graphs = st.integers(0, 12).flatmap(
    lambda size: st.dictionaries(
        st.integers(0, max(size - 1, 0)), st.lists(st.integers(0, size), max_size=4), max_size=size
    ).map(lambda edges: (list(range(size)), edges))
)
acyclic_graphs = st.integers(0, 12).flatmap(
    lambda size: st.permutations(range(size)).flatmap(
        lambda order: st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30).map(
            lambda pairs: (
                list(range(size)),
                {node: [order[a] for a, b in pairs if a < b < size and order[b] == node] for node in range(size)},
            )
        )
    )
)


def test_nodes_that_require_nothing_share_one_layer_in_the_given_order() -> None:
    assert layered(["b", "a", "c"], {}).layers == [["b", "a", "c"]]


def test_a_node_comes_one_layer_after_the_last_node_it_requires() -> None:
    result = layered(["leaf", "root", "middle"], {"leaf": ["middle", "root"], "middle": ["root"]})

    assert result.layers == [["root"], ["middle"], ["leaf"]]
    assert result.cycle == ()


def test_requirements_outside_the_graph_are_ignored() -> None:
    assert layered(["a"], {"a": ["elsewhere"]}).layers == [["a"]]


def test_a_cycle_is_named_without_the_nodes_that_only_lead_to_it() -> None:
    result = layered(["user", "a", "b"], {"user": ["a"], "a": ["b"], "b": ["a"]})

    assert set(result.cycle) == {"a", "b"}


def test_a_node_that_requires_itself_is_a_cycle() -> None:
    assert layered(["a"], {"a": ["a"]}).cycle == ("a",)


def test_a_long_chain_does_not_exhaust_the_stack() -> None:
    nodes = list(range(5000))
    requires = {node: [node + 1] for node in nodes}

    assert [group[0] for group in components(nodes, requires)] == nodes[::-1]
    assert len(layered(nodes, requires).layers) == 5000


def test_nodes_that_require_each_other_form_one_component() -> None:
    groups = components(
        ["item", "order", "customer"], {"item": ["order"], "order": ["customer"], "customer": ["order"]}
    )

    assert groups == [("order", "customer"), ("item",)]


@given(acyclic_graphs)
def test_every_layer_requires_only_earlier_layers(graph: tuple[list[int], Graph]) -> None:
    nodes, requires = graph

    result = layered(nodes, requires)

    assert result.cycle == ()
    assert sorted(node for layer in result.layers for node in layer) == nodes
    layer_of = {node: place for place, layer in enumerate(result.layers) for node in layer}
    for node in nodes:
        bound = max((layer_of[required] for required in requires.get(node, ())), default=-1)
        assert layer_of[node] == bound + 1


@given(graphs)
def test_a_reported_cycle_is_a_cycle(graph: tuple[list[int], Graph]) -> None:
    nodes, requires = graph

    result = layered(nodes, requires)

    assert bool(result.cycle) == (sum(map(len, result.layers)) < len(nodes))
    for node, required in zip(result.cycle, result.cycle[1:] + result.cycle[:1], strict=True):
        assert required in requires[node]


@given(graphs)
def test_components_are_exactly_the_nodes_that_reach_each_other(graph: tuple[list[int], Graph]) -> None:
    nodes, requires = graph
    reach = {node: _reachable(node, nodes, requires) for node in nodes}

    groups = components(nodes, requires)

    assert sorted(node for group in groups for node in group) == nodes
    place = {node: index for index, group in enumerate(groups) for node in group}
    for node in nodes:
        for other in nodes:
            together = other in reach[node] and node in reach[other]
            assert (place[node] == place[other]) == (together or node == other)
            if other in reach[node] and not together and node != other:
                assert place[other] < place[node]


def _reachable(start: int, nodes: list[int], requires: Graph) -> set[int]:
    found: set[int] = set()
    todo = [start]
    while todo:
        for required in requires.get(todo.pop(), ()):
            if required in nodes and required not in found:
                found.add(required)
                todo.append(required)
    return found
