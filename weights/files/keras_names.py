"""The names of the arrays in a weights file of Keras 3, in which layers have numbers.

The file follows the attributes of a model: "layers/conv2d_3/vars/0" is the first variable of the
fourth Conv2D in the attribute `layers`. Keras writes the name of the layer beside it, as an
attribute of "vars". What a variable is called in its layer follows from its place and its axes.

Models of ours are found by their attributes, and named as `Framework.path` does:
"stages.layers.0.layers.1.conv1.kernel". Arrays of other models have the name of the innermost layer
and their own, "conv1_conv/kernel", as `weights.dialects` has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from weights.files.hdf5_parser import Group
from weights.files.hdf5_values import Dataset

GroupPath = tuple[str, ...]
Tree = Mapping[GroupPath, Group | Dataset]
Refuse = Callable[[str], NoReturn]

VARIABLES = "vars"
LEAVES = "resattn_leaves"  # an attribute of ours: the names of variables that do not follow
_LAYERS = "layers"
_STEMS = ("stem", "published_stem")
_STAGES = "sequential"
_BLOCK = {"conv1", "bn1", "conv2", "bn2"}
_OPTIMIZER = "optimizer"
_MODELS = 100

# The names of the variables of a layer, by the number of axes of each. Kernels have 2 at least.
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_BY_RANKS: dict[tuple[int, ...], tuple[str, ...]] = {
    (1, 1): _NORM[:2],
    (1, 1, 1, 1): _NORM,
    (2, 2): ("height_rel", "width_rel"),
    **{(rank,): ("kernel",) for rank in (2, 3, 4, 5)},
    **{(rank, 1): ("kernel", "bias") for rank in (2, 3, 4, 5)},
}


@dataclass(frozen=True)
class Layer:
    """A layer with variables. place: of its group. name: what Keras called it, if it is known."""

    place: GroupPath
    name: str | None
    variables: tuple[Dataset, ...]
    said: tuple[str, ...] = ()

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(len(each.shape) for each in self.variables)

    @property
    def leaves(self) -> tuple[str, ...]:
        """The names of its variables; numbers where they do not follow from the axes."""
        if len(self.said) == len(self.variables):
            return self.said
        numbers = tuple(str(number) for number in range(len(self.variables)))
        return _BY_RANKS.get(self.ranks, numbers)


def find_layers(tree: Tree, refuse: Refuse, names: Mapping[GroupPath, str]) -> list[Layer]:
    """The layers with variables, without those of optimizers. names: of layers, by place, for
    files that do not say them.
    """
    found = []
    for place, group in tree.items():
        if not place or place[-1] != VARIABLES or isinstance(group, Dataset):
            continue
        if _OPTIMIZER in place:
            continue
        keys = {str(number): place for number in range(len(group.children))}
        variables = [tree[(*place, key)] for key in keys if key in group.children]
        held = tuple(each for each in variables if isinstance(each, Dataset))
        if len(held) != len(keys):
            refuse("it has variables without numbers")
        if held:
            name = _text(group, "name") or names.get(place[:-1])
            said = tuple((_text(group, LEAVES) or "").split())
            found.append(Layer(place[:-1], name, held, said))
    return found


@dataclass(frozen=True)
class Named:
    """A layer with its name. model: the place of the model of ours that it is in, if it is in one.

    module: its dotted path from there, or what Keras called it.
    """

    layer: Layer
    model: GroupPath | None
    module: str

    @property
    def variables(self) -> dict[str, Dataset]:
        """Its variables by name."""
        mark = "/" if self.model is None else "."
        leaves = zip(self.layer.leaves, self.layer.variables, strict=True)
        return {f"{self.module}{mark}{leaf}".lstrip("."): each for leaf, each in leaves}


def name_layers(tree: Tree, layers: list[Layer], refuse: Refuse) -> list[Named]:
    """The layers by name."""
    namer = _Namer(tree, refuse)
    found = []
    for layer in layers:
        place = layer.place
        root = next((each for each in namer.models if place[: len(each)] == each), None)
        if root is not None:
            found.append(Named(layer, root, namer.path(root, place)))
        elif layer.name is not None:
            found.append(Named(layer, None, layer.name))
        else:
            refuse(
                f"it does not say what the layer {'/'.join(place)[:100]!a} is called (older "
                "versions of Keras 3 did not write that)"
            )
    return found


def gather_arrays(layers: list[Named], refuse: Refuse) -> dict[str, Any]:
    """The variables of all layers by name.

    Where a model of ours is not alone, its variables are in a mapping of their own, by its place.
    """
    found: dict[GroupPath | None, dict[str, Any]] = {None: {}}
    for layer in layers:
        target = found.setdefault(layer.model, {})
        for name, variable in layer.variables.items():
            if name in target:
                refuse(f"it has two variables called {name[:100]!a}")
            target[name] = variable
    others = found.pop(None)
    if len(found) == 1 and not others:
        return next(iter(found.values()))
    return others | {"/".join(place or ()): held for place, held in found.items()}


def _text(group: Group | Dataset | None, name: str) -> str | None:
    value = None if group is None else group.attributes.get(name)
    return value if isinstance(value, str) else None


def _kind(key: str) -> tuple[str, int]:
    """The class and the number in a key, "conv2d_3"; the first of a class has none."""
    found = re.fullmatch(r"(.+?)(?:_([1-9][0-9]{0,5}))?", key, re.DOTALL)
    return (key, 0) if found is None else (found[1], int(found[2] or 0))


class _Namer:
    """Names layers of ours. models: the places of those that are in no other one; networks: those
    of them that are networks.
    """

    def __init__(self, tree: Tree, refuse: Refuse):
        self.tree, self.refuse = tree, refuse
        self.models: list[GroupPath] = []
        self.networks: set[GroupPath] = set()
        self.positions: dict[GroupPath, dict[str, int]] = {}
        for place in sorted(tree, key=len):
            network = self._is_network(place)
            if not network and not set(self._children(place)) >= _BLOCK:
                continue
            if any(place[: len(each)] == each for each in self.models):
                continue
            if len(self.models) == _MODELS:
                refuse(f"it has more than {_MODELS} models of ours side by side")
            self.models.append(place)
            self.networks |= {place} if network else set()

    def path(self, root: GroupPath, place: GroupPath) -> str:
        """The dotted path, from a model of ours, of the layer at a place."""
        parts: list[str] = []
        here, rest = root, list(place[len(root) :])
        if root in self.networks and rest[:1] == [_LAYERS] and len(rest) > 1:
            kind, _ = _kind(rest[1])
            named = "stem" if kind in _STEMS else "stages" if kind == _STAGES else rest[1]
            parts, here, rest = [named], (*root, *rest[:2]), rest[2:]
        while rest:
            part, *rest = rest
            here = (*here, part)
            parts.append(part)
            if part == _LAYERS and rest:
                key, *rest = rest
                if here not in self.positions:
                    self.positions[here] = self._count(here)
                parts.append(str(self.positions[here][key]))
                here = (*here, key)
        return ".".join(parts)

    def _children(self, place: GroupPath) -> Mapping[str, int]:
        group = self.tree.get(place)
        return group.children if isinstance(group, Group) else {}

    def _is_network(self, place: GroupPath) -> bool:
        if _LAYERS not in self._children(place):
            return False
        kinds = {_kind(key)[0] for key in self._children((*place, _LAYERS))}
        return _STAGES in kinds and bool(kinds & set(_STEMS))

    def _count(self, container: GroupPath) -> dict[str, int]:
        """The positions of the layers in a container.

        Layers of ours have them as their names. Without names they are numbered if all are of one
        class; and a convolution comes before its norm.
        """
        keys = list(self._children(container))
        names = [_text(self.tree.get((*container, each, VARIABLES)), "name") for each in keys]
        if set(names) == set(map(str, range(len(keys)))):
            return {key: int(name or 0) for key, name in zip(keys, names, strict=True)}
        kinds = [_kind(each) for each in keys]
        if sorted(kinds) == [(kinds[0][0], number) for number in range(len(keys))]:
            return {key: number for key, (_, number) in zip(keys, kinds, strict=True)}
        counts = [len(self._children((*container, each, VARIABLES))) for each in keys]
        if len(keys) != 2 or not 0 < min(counts) < max(counts):
            where = "/".join(container)[:100]
            self.refuse(f"it does not say in which order the layers in {where!a} are")
        return {key: int(count == max(counts)) for key, count in zip(keys, counts, strict=True)}


def names_in_config(model: Any, place: GroupPath = ()) -> dict[GroupPath, str]:
    """The names of the layers of a functional or sequential model, from its config in JSON.

    Layers of one class are numbered in their order, in a file as in the config.
    """
    found: dict[GroupPath, str] = {}
    stack = [(model, place)]
    while stack:
        each, place = stack.pop()
        counts: dict[str, int] = {}
        inner = each.get("config") if isinstance(each, dict) else None
        layers = inner.get(_LAYERS) if isinstance(inner, dict) else None
        for layer in layers if isinstance(layers, list) else ():
            kind = layer.get("class_name") if isinstance(layer, dict) else None
            own = layer.get("config") if isinstance(layer, dict) else None
            if not isinstance(kind, str) or not isinstance(own, dict):
                continue
            key = _snake_case(kind)
            number = counts[key] = counts.get(key, -1) + 1
            there = (*place, _LAYERS, f"{key}_{number}" if number else key)
            if isinstance(own.get("name"), str):
                found[there] = own["name"]
            stack.append((layer, there))
    return found


def _snake_case(kind: str) -> str:
    """The name of a class as Keras numbers it: "BatchNormalization" -> "batch_normalization"."""
    words = re.sub(r"(?<=[^_])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", re.sub(r"\W+", "", kind))
    return words.lower()
