"""Whether two graphs compute the same, and which node of one is which of the other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from resattn.recognition.nodes import UNORDERED_OPS, GraphNode

Keys = dict[GraphNode, int]
LabelOf = Callable[[GraphNode], Hashable]


def exact_label(node: GraphNode) -> Hashable:
    return node.label


def key_nodes(
    nodes: Iterable[GraphNode], start: GraphNode, label_of: LabelOf = exact_label
) -> Keys:
    """A number for each node that is the same for nodes that compute the same from `start`.

    nodes: in the order of execution. Those that need something else than `start` get none.
    label_of: what two nodes are compared by, apart from their inputs.
    """
    keys: Keys = {start: hash(("start", start.channels, start.map_size))}
    for node in nodes:
        if node is start or any(given not in keys for given in node.inputs) or not node.inputs:
            continue
        given = [keys[each] for each in node.inputs]
        if node.op in UNORDERED_OPS:
            given.sort()
        keys[node] = hash((label_of(node), tuple(given)))
    return keys


def _key_users(nodes: Sequence[GraphNode], keys: Keys, end: GraphNode) -> Keys:
    """The same by what becomes of each node, as far as `end`."""
    found: Keys = {}
    for node in reversed(nodes):
        if node is end:
            found[node] = hash(("end", keys[node]))
        elif node in keys:
            uses = sorted(
                hash((found[user], _places(node, user))) for user in node.users if user in found
            )
            if uses:
                found[node] = hash((keys[node], tuple(uses)))
    return found


def _places(node: GraphNode, user: GraphNode) -> tuple[int, ...]:
    """At which inputs of its user a node is."""
    if user.op in UNORDERED_OPS:
        return (sum(given is node for given in user.inputs),)
    return tuple(at for at, given in enumerate(user.inputs) if given is node)


Prefer = Callable[[GraphNode, GraphNode], float]  # how badly two nodes fit, 0 if they fit


def match_nodes(
    own: Sequence[GraphNode],
    own_ends: tuple[GraphNode, GraphNode],
    ours: Sequence[GraphNode],
    our_ends: tuple[GraphNode, GraphNode],
    prefer: Prefer,
    label_of: LabelOf = exact_label,
) -> Mapping[GraphNode, GraphNode] | None:
    """For each of our nodes the own node that it is; None if the graphs differ.

    own, ours: the nodes of a model and of a drawn graph in the order of execution; ends: the first
    and the last node of the part that is compared. prefer: which of several equal nodes to take.
    Which of them is taken changes nothing in what is computed.
    """
    keys = key_nodes(own, own_ends[0], label_of)
    our_keys = key_nodes(ours, our_ends[0], label_of)
    if keys.get(own_ends[1]) != our_keys[our_ends[1]]:
        return None
    ranks = {
        **_key_users(own, keys, own_ends[1]),
        **_key_users(ours, our_keys, our_ends[1]),
    }
    found: dict[GraphNode, GraphNode] = {our_ends[0]: own_ends[0]}
    waiting = [(our_ends[1], own_ends[1])]
    while waiting:
        our, other = waiting.pop()
        if our in found:
            if found[our] is not other:
                return None
            continue
        found[our] = other
        pairs = _pair_inputs(our, other, ranks, found, prefer)
        if pairs is None:
            return None
        waiting += pairs
    return found if len(set(found.values())) == len(found) else None


def _pair_inputs(
    our: GraphNode,
    own: GraphNode,
    ranks: Keys,
    found: Mapping[GraphNode, GraphNode],
    prefer: Prefer,
) -> list[tuple[GraphNode, GraphNode]] | None:
    if len(our.inputs) != len(own.inputs):
        return None
    if our.op not in UNORDERED_OPS:
        return list(zip(our.inputs, own.inputs, strict=True))
    left, pairs = list(own.inputs), []
    known = [given for given in our.inputs if given in found]
    for given in [*known, *(each for each in our.inputs if each not in found)]:
        if given in found:
            able = [each for each in left if each is found[given]]
        else:
            taken = set(found.values())
            able = [
                each for each in left if ranks.get(each) == ranks.get(given) and each not in taken
            ]
        if not able:
            return None
        best = min(able, key=lambda each: (prefer(given, each), each.position))
        left.remove(best)
        pairs.append((given, best))
    return pairs
