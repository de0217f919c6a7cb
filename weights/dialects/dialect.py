"""What a dialect is: how another library names a residual network, and which networks it has."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from weights.config import NetworkConfig
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.parameters import ROLES, Parameter
from weights.preprocessing import Preprocessing
from weights.schema import schema

Sizes = tuple[int, ...]
Architectures = Mapping[str, Callable[[], NetworkConfig]]

# Leaves that libraries keep beside parameters and that no network reads.
UNREAD = tuple(leaf for row in FRAMEWORKS.values() for leaf in row.unread)


@dataclass(frozen=True)
class Traits:
    """What decides how a network's modules are named.

    deep: whether its stem has several convolutions. average: whether its shortcuts have an average
    pooling first.
    """

    deep: bool = False
    average: bool = False


@dataclass(frozen=True)
class Dialect:
    """How another library names the residual networks that it publishes.

    title: of the library. source: where its code is. framework: whose leaves and axis orders it
        has, "torch" or "tf".
    modules: for some traits, our name of each module -> theirs; stage and block are {i} and {j},
        counted from 0, and {i1}, {i2}, {j1} from 1 and 2.
    architectures: the networks, by the library's name.
    pruned: those of them whose widths are in their file alone.
    preprocessing: of all of them, if it is one.
    """

    title: str
    source: str
    framework: str
    modules: Callable[[Traits], Mapping[str, str]]
    architectures: Architectures
    pruned: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None

    @property
    def separator(self) -> str:
        """The character between the name of a module and that of a parameter."""
        return "." if self.framework == "torch" else "/"

    def architecture(self, name: str) -> NetworkConfig:
        """The config of one of the networks."""
        return _architecture(self.architectures[name])

    def names(self, config: NetworkConfig) -> dict[str, Parameter]:
        """Their name of every parameter of a config -> the parameter.

        Raises ArgumentError for a parameter that the library has no name for.
        """
        deep = len(config.stem_widths) > 1
        table = self.modules(Traits(deep, config.shortcut == "average"))
        leaves = FRAMEWORKS[self.framework].leaves
        found = {}
        for parameter in schema(config):
            module = _translate(parameter.module, table)
            if module is None:
                raise ArgumentError(
                    f"dialect: {self.title} has no name for {parameter.name}; it has networks as "
                    f"{', '.join(list(self.architectures)[:3])}"
                )
            found[f"{module}{self.separator}{leaves[parameter.role][0]}"] = parameter
        return found

    def recognise(self, shapes: Mapping[str, Sizes]) -> dict[str, tuple[str, Sizes]]:
        """Their names -> our name and the shape in our order, for the names that it knows."""
        table = self.modules(self._traits(shapes))
        patterns = [(_pattern(theirs), ours) for ours, theirs in table.items()]
        found = {}
        for name, shape in shapes.items():
            module, _, leaf = name.rpartition(self.separator)
            ours = next((made for p, o in patterns if (made := _ours(p, o, module))), None)
            role = self._role(leaf, shape)
            if ours is not None and role is not None:
                found[name] = (f"{ours}.{ROLES[role].leaf}", self._reorder(role, shape))
        return found

    def _traits(self, names: Iterable[str]) -> Traits:
        modules = {name.rpartition(self.separator)[0] for name in names}
        plain, average = self.modules(Traits()), self.modules(Traits(average=True))
        second = self.modules(Traits(deep=True)).get("stem.conv2")
        moved = average["shortcut.1"]
        pooled = moved != plain["shortcut.1"] and any(map(_pattern(moved).fullmatch, modules))
        return Traits(second in modules, pooled)

    def _role(self, leaf: str, shape: Sizes) -> str | None:
        """The role of a parameter with that leaf. Roles of a leaf differ in their axes."""
        for role, (name, axes) in FRAMEWORKS[self.framework].leaves.items():
            built_in = role in BUILT_IN_ROLES
            if built_in and name == leaf and len(axes.split()) == len(shape):
                return role
        return None

    def _reorder(self, role: str, shape: Sizes) -> Sizes:
        sizes = dict(zip(FRAMEWORKS[self.framework].leaves[role][1].split(), shape, strict=True))
        return tuple(sizes[axis] for axis in ROLES[role].axes.split())


@cache
def _architecture(make: Callable[[], NetworkConfig]) -> NetworkConfig:
    return make()


BUILT_IN_ROLES = tuple(ROLES)
_PLACE = r"stages\.(\d+)\.(\d+)\.(.*)"


def _translate(module: str, table: Mapping[str, str]) -> str | None:
    """Our name of a module -> theirs."""
    place = re.fullmatch(_PLACE, module)
    if place is None:
        return table.get(module)
    i, j = int(place[1]), int(place[2])
    theirs = table.get(place[3])
    return theirs and theirs.format(i=i, i1=i + 1, i2=i + 2, j=j, j1=j + 1)


def _pattern(theirs: str) -> re.Pattern[str]:
    text = re.escape(theirs)
    return re.compile(re.sub(r"\\{([ij]\d?)\\}", r"(?P<\1>\\d+)", text))


def _ours(pattern: re.Pattern[str], ours: str, module: str) -> str | None:
    """Their name of a module -> ours, None if it is not of that pattern."""
    found = pattern.fullmatch(module)
    if found is None:
        return None
    if not found.groupdict():
        return ours
    places = {
        name[0]: int(number) - int(name[1:] or 0) for name, number in found.groupdict().items()
    }
    if min(places.values()) < 0:
        return None
    return f"stages.{places['i']}.{places['j']}.{ours}"
