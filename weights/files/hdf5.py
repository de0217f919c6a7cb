"""Keras' HDF5 files: `.weights.h5` of Keras 3, and `.h5` of Keras 2, which is only read.

They are read without Keras and without the HDF5 library; see `weights.files.hdf5_parser`. They are
written by Keras itself, so that it loads them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from weights.config import Config
from weights.convert import BFLOAT16, see_natively
from weights.dialects import keras_applications
from weights.errors import ArgumentError, WeightsError
from weights.fields import parse_json
from weights.files.atomic import reserve, write_atomically
from weights.files.content import Header
from weights.files.hdf5_parser import Group, Parser
from weights.files.hdf5_values import Dataset, Region, read_values
from weights.files.keras_names import (
    LEAVES,
    VARIABLES,
    GroupPath,
    Tree,
    find_layers,
    gather_arrays,
    name_layers,
)
from weights.files.label import ENTRIES, Label
from weights.files.limits import MOST_HEADER, check_claim
from weights.frameworks import FRAMEWORKS
from weights.live import adapter, build, part
from weights.schema import schema
from weights.stored import StoredArray, get_bytes, on_cores

WEIGHTS_SUFFIX = ".weights.h5"  # of what is written
_ATTRIBUTE = "resattn_"  # what the names of the label's entries begin with
_DEEPEST = 64  # groups in groups
_PIECE = 15_000  # characters of an attribute, which has less than 64 KiB
_OVERHEAD = 4096  # bytes of a file that an array needs besides its values, at most
_LEGACY = "layer_names"


def read(path: Path) -> Header:
    """What a file of Keras 2 or 3 holds.

    Raises WeightsError for a file that is broken, that does not name its layers, or that has what
    no file of Keras has; FileError where the system refuses.
    """
    return read_region(Region.of(path), path.name)


def read_region(
    region: Region, source: str, names: Mapping[GroupPath, str] | None = None
) -> Header:
    """The same for a part of a file. names: of layers, by place, for files without them."""
    parser = Parser(region, source)
    tree = _walk(parser)
    _check_sizes(tree, region, parser)
    root = tree[()]
    weights = tree.get(("model_weights",), root)
    if _texts(weights, _LEGACY) or "model_config" in root.attributes:
        arrays, ours = _legacy(tree, weights is not root, parser), False
        name = _name_in_config(root.attributes.get("model_config"), source)
    else:
        layers = name_layers(tree, find_layers(tree, parser.refuse, names or {}), parser.refuse)
        if not layers:
            raise WeightsError(
                f"{source}: is an HDF5 file, but not one of weights that Keras wrote: it has "
                "neither variables nor layer_names",
                [],
            )
        arrays = gather_arrays(layers, parser.refuse)
        ours = any(layer.model is not None for layer in layers)
        name = tree[VARIABLES,].attributes.get("name") if (VARIABLES,) in tree else None
    label = {entry: text for entry in ENTRIES if (text := _entry(root, entry))}
    stored = _stored(arrays, region, source)
    return Header(stored, label, "tf" if ours else "torch", architecture_named(name))


def _entry(root: Group | Dataset, entry: str) -> str:
    """An entry of the label, whose pieces are "resattn_config", "resattn_config1", ..."""
    pieces: list[str] = []
    while isinstance(piece := root.attributes.get(f"{_ATTRIBUTE}{entry}{len(pieces) or ''}"), str):
        pieces.append(piece)
    return "".join(pieces)


def architecture_named(name: Any) -> str | None:
    """The network of keras.applications of which a model has the name, "resnet50"."""
    known = keras_applications.DIALECT.architectures
    return next((each for each in known if each.lower() == name), None)


def _walk(parser: Parser) -> dict[GroupPath, Group | Dataset]:
    """Everything in a file, by its place."""
    tree: dict[GroupPath, Group | Dataset] = {}
    stack: list[tuple[GroupPath, int]] = [((), parser.root)]
    while stack:
        place, address = stack.pop()
        node = tree[place] = parser.node(address)
        if isinstance(node, Group):
            if len(place) >= _DEEPEST and node.children:
                parser.refuse(f"its groups are in each other more than {_DEEPEST} times")
            stack += [((*place, name), child) for name, child in node.children.items()]
    if isinstance(tree[()], Dataset):
        parser.damaged("it begins with an array")
    return tree


def _check_sizes(tree: Tree, region: Region, parser: Parser) -> None:
    """Refuses arrays that share bytes of the file, and those that unpack to far more than it."""
    held = [each for each in tree.values() if isinstance(each, Dataset)]
    stored, unpacked = sum(each.stored for each in held), sum(each.nbytes for each in held)
    if stored > region.size:
        parser.damaged(f"its arrays take {stored:,} bytes, and it has {region.size:,}")
    check_claim(unpacked, stored, parser.source, compressed=True)


def _stored(arrays: Mapping[str, Any], region: Region, source: str) -> dict[str, Any]:
    return {
        name: StoredArray(
            each.shape, each.dtype.newbyteorder("="), partial(read_values, region, each, source)
        )
        if isinstance(each, Dataset)
        else _stored(each, region, source)
        for name, each in arrays.items()
    }


def _texts(node: Group | Dataset, name: str) -> list[str]:
    """An attribute that is a list of texts. Keras cuts a long one into "name0", "name1", ..."""
    value = node.attributes.get(name)
    if isinstance(value, list):
        return value
    found: list[str] = []
    while isinstance(piece := node.attributes.get(f"{name}{len(found)}"), list):
        found += piece
    return found


def _legacy(tree: Tree, wrapped: bool, parser: Parser) -> dict[str, Dataset]:
    """The arrays of a file of Keras 2, as layer/variable."""
    root: GroupPath = ("model_weights",) if wrapped else ()
    found: dict[str, Dataset] = {}
    for layer in _texts(tree[root], _LEGACY):
        place = (*root, *layer.split("/"))
        if place not in tree:
            parser.damaged(f"it has no layer {layer[:100]!a}, which it names")
        for path in _texts(tree[place], "weight_names"):
            variable = tree.get((*place, *path.split("/")))
            if not isinstance(variable, Dataset):
                parser.damaged(f"it has no array {path[:100]!a}, which it names")
            name = _legacy_name(layer, path)
            if name in found:
                parser.refuse(f"it has two variables called {name[:100]!a}")
            found[name] = variable
    return found


def _legacy_name(layer: str, path: str) -> str:
    """The name of a variable: "conv1/conv1_2/kernel:0" of the layer "conv1" is "conv1/kernel".

    TensorFlow 1 numbered scopes of one name. Layers of a model in a model have their own names.
    """
    *scopes, leaf = path.rpartition(":")[0].split("/") if ":" in path else path.split("/")
    scope = scopes[-1] if scopes else layer
    number = scope.removeprefix(f"{layer}_") if scope.startswith(f"{layer}_") else ""
    return f"{layer if number.isdigit() else scope}/{leaf}"


def _name_in_config(text: Any, source: str) -> Any:
    """The name of the model in a legacy file's config. Raises WeightsError for one of ours."""
    if not isinstance(text, str):
        return None
    if "resattn>" in text:
        raise WeightsError(
            f"{source}: holds a model of ours in Keras' legacy format, which does not tell layers "
            "of one name apart; save it as .weights.h5 or .keras",
            [],
        )
    try:
        values = parse_json(text, "its model_config", MOST_HEADER)
    except ValueError as error:  # not only ours: Python limits the digits of a number
        raise WeightsError(f"{source}: is damaged: {str(error)[:200]}", []) from None
    inner = values.get("config") if isinstance(values, dict) else None
    return inner.get("name") if isinstance(inner, dict) else None


def write(
    path: Path, label: Label, arrays: Mapping[str, np.ndarray | StoredArray], config: Config | None
) -> None:
    """A model of ours, or a network of keras.applications. Needs Keras.

    Raises ArgumentError for another suffix than `.weights.h5`, and for networks that Keras does not
    have.
    """
    if not path.name.lower().endswith(WEIGHTS_SUFFIX):
        raise ArgumentError(
            f"{path.name}: cannot write Keras' legacy format; expected a name that ends in "
            f"{WEIGHTS_SUFFIX}"
        )

    def write_to(temporary: Path) -> None:
        with draft(temporary, WEIGHTS_SUFFIX) as written:
            save_in_keras(written, written, arrays, config)
            if config is not None:
                sign(written, path.name, config, arrays, label)
            written.replace(temporary)

    write_atomically(path, write_to)


@contextmanager
def draft(path: Path, suffix: str) -> Iterator[Path]:
    """A name beside `path` with a suffix, as Keras asks for one. What is left of it is removed."""
    made = path.with_name(path.name + suffix)
    try:
        yield made
    finally:
        made.unlink(missing_ok=True)


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path`. What is left of it is removed."""
    made = path.with_name(f"{path.name}.parts")
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def save_in_keras(
    path: Path,
    weights: Path,
    arrays: Mapping[str, np.ndarray | StoredArray],
    config: Config | None,
) -> None:
    """Lets Keras write a file of weights, or the parts of a .keras file into a folder. weights: the
    HDF5 file among them. Raises OSError where the system refuses.
    """
    # The HDF5 library ends the process on some full disks.
    reserve(weights, sum(each.nbytes for each in arrays.values()) + _OVERHEAD * (len(arrays) + 20))
    try:
        if config is None:
            part("tf", "bridge.foreign").write_foreign(path, arrays)
        else:
            adapter("tf").write_file(path, build(config, arrays, "tf"))
    except RuntimeError as error:  # the HDF5 library's, for a full disk
        raise OSError(str(error)) from error


def sign(
    path: Path,
    source: str,
    config: Config,
    arrays: Mapping[str, np.ndarray | StoredArray],
    label: Label,
) -> None:
    """Adds the label to a file of ours that Keras wrote, the names of variables that do not follow,
    and dtypes that Keras widened: those of running statistics.

    source: what to call the file in an error.
    Raises WeightsError where the arrays are in other places than the config says.
    """
    import h5py  # type: ignore[import-untyped]

    natives = see_natively("tf", schema(config), arrays)
    places: dict[str, GroupPath] = {}
    leaves: dict[GroupPath, list[str]] = {}
    parser = Parser(Region.of(path), source)
    tree = _walk(parser)
    for each in name_layers(tree, find_layers(tree, parser.refuse, {}), parser.refuse):
        names, inside = list(each.variables), (*each.layer.place, VARIABLES)
        if not set(names) <= set(natives):
            leaves[inside] = _leaves_of(each.module, config)
            names = [f"{each.module}.{leaf}" for leaf in leaves[inside]]
        places |= {name: (*inside, str(number)) for number, name in enumerate(names)}
    if set(places) != set(natives):
        raise _misplaced(source, set(places) ^ set(natives))
    with h5py.File(path, "r+") as file:
        for entry, text in label.items():
            pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
            for number, piece in enumerate(pieces):
                file.attrs[f"{_ATTRIBUTE}{entry}{number or ''}"] = piece
        for place, own in leaves.items():
            file["/".join(place)].attrs[LEAVES] = " ".join(own)
        for name, place in places.items():
            if getattr(tree[place], "dtype", None) != natives[name].dtype:
                del file["/".join(place)]
                made = file.create_dataset("/".join(place), data=natives[name].read())
                if natives[name].dtype == BFLOAT16:  # HDF5 has no such type; Keras looks for this
                    made.attrs["dtype"] = "bfloat16"
    written = read(path).arrays
    same = on_cores(lambda name: _is_same(natives[name], written.get(name)), natives)
    wrong = {name for name, fits in zip(natives, same, strict=True) if not fits}
    if wrong:
        raise _misplaced(source, wrong)


def _is_same(array: StoredArray, other: StoredArray | None) -> bool:
    if other is None or (array.shape, array.dtype) != (other.shape, other.dtype):
        return False
    ours, theirs = (np.frombuffer(get_bytes(each), np.uint8) for each in (array, other))
    return np.array_equal(ours, theirs)


def _misplaced(source: str, names: set[str]) -> WeightsError:
    return WeightsError(
        f"{source}: was not written, since Keras keeps these arrays in other places than the "
        "config says; write a .safetensors file:",
        sorted(names),
    )


def _leaves_of(module: str, config: Config) -> list[str]:
    """The names of the variables that a layer itself has, as Keras orders them: in the order of the
    schema, those that are trained first.
    """
    row = FRAMEWORKS["tf"]
    parameters = sorted(schema(config), key=lambda each: not each.trainable)
    paths = [row.path(each).rpartition(".") for each in parameters]
    return [leaf for before, _, leaf in paths if before == module]
