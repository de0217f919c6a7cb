"""Live models: export, load, port. Knows no framework; the adapter of the model's package does.

An implementation's package is named in `weights.frameworks` and imported when a model of it is
first met, never before.
"""

import importlib
import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache
from types import ModuleType
from typing import Any, Self

import numpy as np

from weights.attention import ATTENTION
from weights.checks import at_least
from weights.config import Config
from weights.convert import DTYPES, LOW, Arrays, check, reorder
from weights.copying import Arena, copy_values
from weights.devices import check_device
from weights.errors import ArgumentError, MissingFramework, ModelError, WeightsError
from weights.frameworks import FRAMEWORKS, Framework, framework_key, framework_named
from weights.language import say
from weights.leaves import find_leaves, shape_in, walk
from weights.parameters import Parameter, Parameters
from weights.schema import schema
from weights.settings import KIND, ModuleSettings, compare_settings
from weights.stored import (
    StoredArray,
    as_stored,
    dtype_named,
    in_native_order,
    on_cores,
    read_arrays,
)

# {moment: {canonical name of the parameter: array in canonical layout}}
Moments = dict[str, Arrays]

_GROUP, _GROUP_VALUES = 64, 1 << 20  # parameters, and their values, that a core takes at a time


def adapter(framework: str) -> ModuleType:
    """The adapter of our implementation in a framework. Raises MissingFramework."""
    return part(framework, "bridge.adapter")


def part(framework: str, name: str) -> ModuleType:
    """A module of our implementation in a framework.

    Raises MissingFramework when the framework is not installed.
    """
    row = framework_named(framework)
    try:
        return importlib.import_module(f"{row.package}.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in (row.package, "weights"):
            raise
        raise MissingFramework(row.explain_missing(error.name), name=error.name) from None


def framework_of(model: object) -> str:
    """Which framework a live model of ours belongs to. Raises ModelError for anything else."""
    framework = _origin(model)
    # A wrapper of the model, such as torch.compile's, passes `config` through and is of the same
    # framework.
    if framework is not None and isinstance(getattr(model, "config", None), Config):
        return framework
    raise ModelError(
        "expected a ResidualBlockWithAttention or a ResidualAttentionNetwork of pytorch_impl, "
        f"jax_impl or tf_impl, got {type(model).__module__}.{type(model).__qualname__}; if your "
        "model holds one, pass that part of it"
    )


def owner(model: object) -> str:
    """Which framework any live model belongs to. Raises ModelError for what belongs to none."""
    framework = _origin(model)
    if framework is None:
        kind = type(model)
        raise ModelError(
            "expected a PyTorch module, a Flax module or a Keras layer, got "
            f"{kind.__module__}.{kind.__qualname__}"
        )
    return framework


def _origin(model: object) -> str | None:
    """The first that fits: on its PyTorch backend Keras' layers are PyTorch modules as well."""
    owners = {module: name for name, row in FRAMEWORKS.items() for module in row.modules}
    origins = (kind.__module__.split(".")[0] for kind in type(model).__mro__)
    return next((owners[origin] for origin in origins if origin in owners), None)


@dataclass(frozen=True)
class LiveModel:
    """A live model of ours, looked into once.

    model: the model, or a part of one. name: of its framework. parameters: those that it has, named
        from the model, in the order of execution.
    leaves: the framework's own variables that hold them, by canonical name.
    """

    model: Any
    name: str
    parameters: Parameters
    leaves: Mapping[str, Any]

    @classmethod
    def of(cls, model: object) -> Self:
        """A block or a network of any of the three packages.

        Raises ModelError for another object, WeightsError when the model does not hold what its
        config describes.
        """
        name = framework_of(model)
        config: Config = model.config  # type: ignore[attr-defined]
        parameters = schema(config)
        return cls(
            model, name, parameters, find_leaves(model, name, adapter(name), config, parameters)
        )

    @property
    def framework(self) -> Framework:
        return FRAMEWORKS[self.name]

    @property
    def adapter(self) -> ModuleType:
        """What touches models of its framework."""
        return adapter(self.name)

    @property
    def trainable(self) -> Parameters:
        """The parameters that an optimizer updates."""
        return tuple(parameter for parameter in self.parameters if parameter.trainable)

    def part(self, module: str) -> "LiveModel":
        """One of its modules, its parameters named from there."""
        inner = f"{module}."
        held = [each for each in self.parameters if f"{each.module}.".startswith(inner)]
        parameters = tuple(
            replace(each, module=each.module.removeprefix(module).removeprefix("."))
            for each in held
        )
        leaves = {
            own.name: self.leaves[each.name] for own, each in zip(parameters, held, strict=True)
        }
        return LiveModel(walk(self.model, module), self.name, parameters, leaves)

    def dtypes(self) -> dict[str, str]:
        """The dtype of each parameter, as NumPy calls it."""
        return {name: self.adapter.dtype_name(leaf) for name, leaf in self.leaves.items()}

    def export(self) -> Arrays:
        """{canonical name: NumPy array}: copies, canonical layout, dtypes kept.

        Raises WeightsError for dtypes that no file of ours can hold.
        """
        self._check_dtypes()
        return read_arrays(self._seen(self.parameters))

    def _check_dtypes(self) -> None:
        foreign = {name: dtype for name, dtype in self.dtypes().items() if dtype not in DTYPES}
        if foreign:
            raise WeightsError(
                f"cannot export a {self.framework.label} model with parameters in other dtypes "
                f"than {', '.join(DTYPES)}:",
                [f"{name}: {dtype}" for name, dtype in foreign.items()],
            )

    def see(self) -> dict[str, StoredArray]:
        """The same as `export`, but nothing is copied before its values are needed."""
        self._check_dtypes()
        return self._seen(self.parameters)

    def statistics(self) -> Arrays:
        """The running statistics, as `export` gives them."""
        return read_arrays(self._seen(each for each in self.parameters if not each.trainable))

    def _seen(self, parameters: Iterable[Parameter]) -> dict[str, StoredArray]:
        return {each.name: self._see(each) for each in parameters}

    def _see(self, parameter: Parameter) -> StoredArray:
        leaf, to_numpy = self.leaves[parameter.name], self.adapter.to_numpy
        own = self.framework.axes(parameter)
        shape = shape_in(self.framework, parameter)
        dtype = dtype_named(self.adapter.dtype_name(leaf), parameter.name)
        held = StoredArray(shape, dtype, lambda: in_native_order(to_numpy(leaf)))
        return reorder(held, own, parameter.axes)

    def _canonical(self, parameter: Parameter, array: np.ndarray) -> np.ndarray:
        return reorder(array, self.framework.axes(parameter), parameter.axes)

    def load(self, arrays: Mapping[str, np.ndarray | StoredArray], *, is_new: bool = False) -> None:
        """Puts canonical arrays into the model. Strict: names, shapes and dtypes must be its own.

        Running statistics are held in float32 at least: where they come in bfloat16 or float16 they
        are widened, which is exact.
        is_new: whether nobody needs the values that the model has now.
        Raises WeightsError with every fault; the model is then as it was before, unless it is new.
        """
        self._assign(self.accept(arrays), keep=not is_new)

    def accept(self, arrays: Mapping[str, np.ndarray | StoredArray]) -> dict[str, StoredArray]:
        """Canonical arrays as `load` takes them. Raises WeightsError with every fault."""
        arrays = _with_wide_statistics(self.parameters, arrays)
        given = {getattr(getattr(array, "dtype", None), "name", "") for array in arrays.values()}
        if "float64" in given and not self.adapter.holds_float64():
            raise WeightsError(f"cannot load float64 arrays: {self.adapter.FLOAT64_HELP}", [])
        headline = say("the arrays do not fit this {name} model", name=self.framework.label)
        check(self.parameters, arrays, self.dtypes(), headline)
        apart = self._without_overlaps(arrays)
        return {name: as_stored(array) for name, array in apart.items()}

    def _assign(self, arrays: Mapping[str, StoredArray], *, keep: bool) -> None:
        """Arrays that fit, some at a time on each core. keep: what is replaced, to be put back
        after an error.
        """
        adapter, own = self.adapter, self.framework.axes
        arena = Arena(sum(array.nbytes for array in arrays.values()))
        kept: dict[str, np.ndarray] = {}

        def make(group: Parameters) -> list[np.ndarray]:
            made = []
            for each in group:
                leaf = self.leaves[each.name]
                values = reorder(arrays[each.name], each.axes, own(each)).get()
                if keep:
                    kept[each.name] = adapter.snapshot(leaf)
                made.append(adapter.room(leaf, values.shape, values.dtype, arena))
                copy_values(made[-1], values)
            return made

        groups = list(_groups(self.parameters))
        try:
            # Assigned in this thread, since settings of frameworks are of a thread.
            with closing(on_cores(make, groups)) as results:
                for group, made in zip(groups, results, strict=True):
                    adapter.assign([self.leaves[each.name] for each in group], made)
        except BaseException:
            self._put_back(kept)
            raise

    def _put_back(self, kept: Mapping[str, np.ndarray]) -> None:
        arena = Arena(sum(array.nbytes for array in kept.values()))
        for name, array in kept.items():
            made = self.adapter.room(self.leaves[name], array.shape, array.dtype, arena)
            copy_values(made, array)
            self.adapter.assign([self.leaves[name]], [made])

    def _without_overlaps(
        self, arrays: Mapping[str, np.ndarray | StoredArray]
    ) -> Mapping[str, np.ndarray | StoredArray]:
        """The same arrays, with copies of those that are in the memory of the model: it is changed
        before all of them are read.
        """
        places = sorted(self.adapter.memory(leaf)[1:] for leaf in self.leaves.values())
        starts = [start for start, _ in places]

        def apart(array: np.ndarray | StoredArray) -> np.ndarray | StoredArray:
            if not isinstance(array, np.ndarray):
                return array
            first, last = np.lib.array_utils.byte_bounds(array)
            before = bisect_left(starts, last) - 1
            return array.copy() if before >= 0 and places[before][1] > first else array

        return {name: apart(array) for name, array in arrays.items()}

    def forward(self, x: np.ndarray, *, training: bool = False) -> np.ndarray:
        """The output for canonical images; running statistics move if training."""
        output: np.ndarray = self.adapter.forward(self.model, x, training=training)
        return output

    def gradients(
        self, x: np.ndarray, cotangent: np.ndarray, *, training: bool
    ) -> tuple[np.ndarray, Arrays]:
        """The output, and the gradients of sum(output * cotangent) by canonical name.

        "input" is the gradient with respect to x.
        """
        y, first, slopes = self.adapter.gradients(
            self.model, self._trained(), x, cotangent, training=training
        )
        return y, {"input": first, **self._from_native(slopes)}

    def moments(self, optimizer: Any) -> Moments:
        """What an optimizer of this model keeps, by moment and canonical name."""
        held = part(self.name, "training").moments(optimizer, self._trained())
        return {moment: self._from_native(arrays) for moment, arrays in held.items()}

    def restore(
        self, optimizer: Any, step: int, moments: Mapping[str, Mapping[str, np.ndarray]]
    ) -> None:
        """Puts the number of updates made, and the moments, into an optimizer of this model."""
        own = self.framework
        natives = {
            moment: {
                own.path(each): reorder(arrays[each.name], each.axes, own.axes(each))
                for each in self.trainable
            }
            for moment, arrays in moments.items()
        }
        part(self.name, "training").restore(optimizer, self._trained(), step, natives)

    def _trained(self) -> dict[str, Any]:
        """The live parameters that training moves, by the framework's names."""
        return {self.framework.path(each): self.leaves[each.name] for each in self.trainable}

    def _from_native(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Arrays of trainable parameters by the framework's names -> canonical ones."""
        path = self.framework.path
        return {each.name: self._canonical(each, arrays[path(each)]) for each in self.trainable}


def check_unchanged(live: LiveModel) -> None:
    """Raises ModelError where a model computes something else than its config says, since a stride,
    eps, hook or the config was changed after it was made. Its weights alone would not say so.
    """
    config: Config = live.model.config
    own = {
        f"{name}.attention".lstrip("."): ATTENTION[block.attention].modules.get(live.name)
        for name, block in config.named_blocks().items()
        if not ATTENTION[block.attention].built_in
    }
    expected = _settings_of(live.name, config, tuple(own.values()))
    found = live.adapter.settings(live.model)
    changes = compare_settings(
        {place: value for place, value in expected.items()
         if place != f" {KIND}" and not _is_within(place, own)}, found
    )  # fmt: skip
    if changes:
        more = f"\n  and {len(changes) - 10} more" if len(changes) > 10 else ""
        raise ModelError(
            "the model was changed after it was made, and its config does not say so; make a model "
            "of the config that you want, and load the weights into it:\n  "
            + "\n  ".join(changes[:10])
            + more
        )


def _is_within(place: str, modules: Collection[str]) -> bool:
    """Whether a setting is of one of the modules, or of a module in it."""
    path = place.partition(" ")[0]
    return any(f"{path}.".startswith(f"{module}.") for module in modules)


@lru_cache(maxsize=16)
def _settings_of(framework: str, config: Config, own: tuple[Any, ...]) -> ModuleSettings:
    """Those of a new model. own: a user's modules in it, which may be registered anew."""
    module = adapter(framework)
    found: ModuleSettings = module.settings(module.outline(config))
    return found


def _groups(parameters: Parameters) -> Iterator[Parameters]:
    """Parameters of about as many values each, as one core takes them at a time."""
    group: list[Parameter] = []
    size = 0
    for parameter in parameters:
        group.append(parameter)
        size += math.prod(parameter.shape)
        if size >= _GROUP_VALUES or len(group) == _GROUP:
            yield tuple(group)
            group, size = [], 0
    yield tuple(group)


def export(model: Any) -> Arrays:
    """{canonical name: NumPy array}: copies of all parameters and running statistics.

    model: a ResidualBlockWithAttention or ResidualAttentionNetwork of any of the three packages.
    Layout is canonical, dtypes are kept.
    Raises ModelError for another object, WeightsError when the model is not what its config
    describes.
    """
    return LiveModel.of(model).export()


def load(model: Any, arrays: Mapping[str, np.ndarray | StoredArray]) -> None:
    """Puts canonical arrays into a live model, as `LiveModel.load` says.

    Raises ModelError for what is no model of ours, WeightsError with every fault; the model is then
    as it was before.
    """
    LiveModel.of(model).load(arrays)


def _with_wide_statistics(parameters: Parameters, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The same arrays, running statistics in bfloat16 or float16 in float32 instead."""
    statistics = {parameter.name for parameter in parameters if not parameter.trainable}
    low = {
        name
        for name in statistics & set(arrays)
        if isinstance(arrays[name], (np.ndarray, StoredArray)) and arrays[name].dtype.name in LOW
    }
    return {name: _widen(array) if name in low else array for name, array in arrays.items()}


def _widen(array: np.ndarray | StoredArray) -> StoredArray:
    get = as_stored(array).get
    return StoredArray(array.shape, np.dtype(np.float32), lambda: get().astype(np.float32))


def build(
    config: Config,
    arrays: Mapping[str, np.ndarray | StoredArray],
    framework: str,
    device: str | None = None,
    compute: str | None = None,
    shards: int | None = None,
) -> Any:
    """A new model of `config` in a framework, with these arrays, in their dtype.

    It is in evaluation mode. device: "cpu" or "cuda"; by default where the framework puts new
    models. compute: "bfloat16" or "float16" for mixed precision, as the framework does it:
    parameters as they are, computed lower. shards: how many devices each parameter is divided over,
    see `<package>.sharding`; by default the whole model is on one.
    Raises ArgumentError for another `compute`, for both, and for more shards than devices.
    """
    if shards is None:
        return build_live(config, arrays, framework, device, compute).model
    if compute is not None:
        raise ArgumentError("compute: mixed precision is only for models that are on one device")
    divide = part(framework, "sharding").build_sharded
    options = {} if device is None else {"device": device}
    return divide(config, arrays, at_least("shards", shards, 1), **options)


def build_live(
    config: Config,
    arrays: Mapping[str, np.ndarray | StoredArray],
    framework: str,
    device: str | None = None,
    compute: str | None = None,
) -> LiveModel:
    """The same as `build`, looked into."""
    if compute is not None and compute not in LOW:
        raise ArgumentError(
            f"compute: expected one of {', '.join(LOW)}, or None for the dtype of the arrays, got "
            f"{compute!r}"
        )
    framework, parameters = framework_key(framework), schema(config)
    check(parameters, arrays)
    module = adapter(framework)
    check_device(device, module.devices(), FRAMEWORKS[framework].label)
    dtype = find_dtype(parameters, arrays)
    model = module.create(config, dtype=dtype, device=device, compute=compute)
    live = LiveModel(
        model, framework, parameters, find_leaves(model, framework, module, config, parameters)
    )
    live.load(arrays, is_new=True)
    module.set_training(model, False)
    return live


def find_dtype(parameters: Parameters, arrays: Mapping[str, np.ndarray | StoredArray]) -> str:
    """The dtype of a model of arrays: running statistics may be wider than its parameters."""
    given = [arrays[parameter.name].dtype for parameter in parameters if parameter.trainable]
    return min(given, key=lambda dtype: dtype.itemsize).name


def look_into_unchanged(model: Any) -> LiveModel:
    """A live model that computes what its config says. Raises ModelError for a class derived from
    ours, which may compute something else, and what `check_unchanged` raises.
    """
    package = FRAMEWORKS[framework_of(model)].package
    kind = type(getattr(model, "_orig_mod", model))  # what torch.compile wrapped
    if kind.__module__.split(".")[0] != package:
        raise ModelError(
            f"{kind.__module__}.{kind.__qualname__} is derived from our class and may compute "
            "something else, which would be lost; use a plain model, or export this one's weights "
            "and load them into yours"
        )
    live = LiveModel.of(model)
    check_unchanged(live)
    return live


def port(model: Any, to: str, device: str | None = None) -> Any:
    """The same model in another framework ("torch", "jax" or "tf"): config, weights and dtype.

    It is in training mode if `model` is. (Keras models keep no mode, and infer unless they are
    called with training=True: what is ported from Keras comes in evaluation mode.)
    device: "cpu" or "cuda"; by default where the framework puts new models.
    Raises MissingFramework when the other framework is not installed, ModelError for a class
    derived from ours, which may compute something else, and for a model that was changed after it
    was made, as `check_unchanged` says; and what `export` and `load` raise.
    """
    framework_named(to)
    live = look_into_unchanged(model)
    ported = build(model.config, live.see(), to, device)
    adapter(to).set_training(ported, live.adapter.is_training(model))
    return ported
