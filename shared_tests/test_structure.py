"""The three packages are one text in three languages. Compared from their syntax trees, without
importing a framework.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pytorch_impl", "jax_impl", "tf_impl")


# What reads and writes the files of a framework, which have nothing in common, and the engines for
# several devices of PyTorch and Keras.
NATIVE_FILES = {
    "bridge/files.py", "bridge/collectives.py", "bridge/ranks.py", "bridge/workers.py",
    "bridge/replicas.py", "bridge/keys.py",
}  # fmt: skip


def files(package: str) -> list[str]:
    found = {path.relative_to(ROOT / package).as_posix() for path in (ROOT / package).rglob("*.py")}
    return sorted(found - NATIVE_FILES)


FILES = files("pytorch_impl")

# What a framework calls by a name of its own, and what it needs besides.
SAME_NAME = {"forward": "call", "__call__": "call"}
NATIVE_ARGUMENTS = {
    "device", "rngs", "name", "training",
    "param_dtype",  # Flax' way to compute in one dtype and hold another
}  # fmt: skip
NATIVE_METHODS = {
    "reset_parameters", "get_config", "compute_output_shape",
    "children",  # PyTorch's modules have it
}  # fmt: skip
# Names that only one framework has a use for, each with its reason where it is defined.
NATIVE_NAMES = {
    "FLOAT64_HELP", "check_dtype",          # 64 bits need a setting in JAX
    "Sequential",                           # Keras' own casts to another dtype
    "unbias_variance",                      # PyTorch's batch norm does it inside
    "convolve",                             # XLA's is slow for some shapes on CPU
    "cast_operands",                        # Flax adds biases up in the dtype of the input
    "BACKEND", "keras_device", "device_scope", "pullback", "compile_update",  # Keras runs on three
    "compile_inference", "channels_last", "make_pure", "compile_pure", "keep",
    "give", "_SHAREABLE", "Start", "without_draws", "_DRAWS",  # the others have ways of their own
    "put_divided",                          # JAX' arrays can be divided over devices
    "MOVING",                               # Flax returns what a pass has changed
    "check_whole",                          # a step of PyTorch knows nothing of other processes
    "training_mode", "modes",               # in Keras the mode is an argument of the call
    "lower_dtype",                          # PyTorch's models do not say in which they compute
    "place_whole", "find_devices",          # JAX says for each array on which devices it is
    "make_divided_step", "MESH_AXIS",       # one function, which XLA runs on each device
    "from_numpy",                           # PyTorch shares its memory with NumPy
    "read_file", "write_file", "write_foreign",  # files of PyTorch and Keras
    "STEPS",                                # PyTorch's optimizers do not count their steps
    "MOMENTS",                              # Optax calls moments by other names
    "Schedule", "Optimizer", "SGD", "Adam", "AdamW",  # Keras' own give arguments other meanings
}  # fmt: skip
# Classes whose forward methods have other lines.
NATIVE_LINES = {
    "DropPath",  # PyTorch has no dropout of whole images
}


def tree(package: str, file: str) -> ast.Module:
    return ast.parse((ROOT / package / file).read_text())


def public(node: ast.AST) -> bool:
    return not node.name.startswith("_") or node.name in ("__init__", "__call__")


def signature(function: ast.FunctionDef) -> list[str]:
    """Arguments in order, with defaults, `*` before those by keyword; native arguments and dtype's
    default left out.
    """
    arguments = function.args
    positional = arguments.posonlyargs + arguments.args
    padded = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    shown = [_argument(*pair) for pair in zip(positional, padded, strict=True)]
    by_keyword = [
        _argument(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return [
        text for text in [*shown, "*", *by_keyword] if text.split("=")[0] not in NATIVE_ARGUMENTS
    ]


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None or argument.arg == "dtype":
        return argument.arg
    return f"{argument.arg}={ast.unparse(default)}"


def marks(node: ast.FunctionDef | ast.ClassDef) -> list[str]:
    """The decorators that say of a function or class that it is a stage."""
    decorators = map(ast.unparse, node.decorator_list)
    return [decorator for decorator in decorators if decorator.startswith("stage")]


def members(init: ast.FunctionDef) -> list[str]:
    """The public attributes that __init__ gives the object, in order."""
    targets = (
        target
        for node in ast.walk(init)
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self"
    )
    return list(
        dict.fromkeys(target.attr for target in sorted(targets, key=lambda target: target.lineno))
    )


def surface(package: str, file: str) -> list[object]:
    """Public classes and functions in order, with marks, methods and signatures."""
    found: list[object] = []
    for node in tree(package, file).body:
        if isinstance(node, ast.FunctionDef) and public(node) and node.name not in NATIVE_NAMES:
            found.append((node.name, marks(node), signature(node)))
        elif isinstance(node, ast.ClassDef) and node.name not in NATIVE_NAMES:
            methods = [
                (SAME_NAME.get(item.name, item.name), signature(item))
                for item in node.body
                if isinstance(item, ast.FunctionDef)
                and public(item)
                and item.name not in NATIVE_METHODS
            ]
            if (
                file == "layers.py"
            ):  # what the framework's own class computes, and what had to be overridden
                methods = [method for method in methods if method[0] == "__init__"]
            found.append((node.name, marks(node), methods))
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id not in NATIVE_NAMES:
                found.append(target.id)
    return found


def classes(package: str, file: str) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in tree(package, file).body if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_same_files(package):
    assert files(package) == FILES
    assert "attention/se.py" in FILES


@pytest.mark.parametrize("package", PACKAGES[1:])
@pytest.mark.parametrize("file", FILES)
def test_the_same_definitions_in_the_same_order(package, file):
    assert surface(package, file) == surface("pytorch_impl", file)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_same_public_names(package):
    names = {
        file: next(
            ast.literal_eval(node.value)
            for node in tree(file, "__init__.py").body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        )
        for file in (package, "pytorch_impl")
    }
    assert names[package] == names["pytorch_impl"]


# Every class with a forward pass of our own.
MODULES = [
    (file, name)
    for file in FILES
    for name, node in classes("pytorch_impl", file).items()
    if file not in ("layers.py", "normalization.py")
    and any(getattr(item, "name", "") == "forward" for item in node.body)
]


def test_all_modules_are_compared():
    assert len(MODULES) >= 3 + 14
    assert {
        ("block.py", "ResidualBlockWithAttention"),
        ("attention/se.py", "SqueezeExcite"),
    } <= set(MODULES)


@pytest.mark.parametrize("package", PACKAGES[1:])
@pytest.mark.parametrize(("file", "name"), MODULES)
def test_the_same_members_in_the_same_order(package, file, name):
    def of(where):
        body = classes(where, file)[name].body
        inits = [item for item in body if getattr(item, "name", "") == "__init__"]
        found = [member for init in inits for member in members(init)]
        return [member for member in found if member not in ("built", "arguments")]

    assert of(package) == of("pytorch_impl")


# How a tensor's shape is read and changed, which each framework says in its own way.
RESHAPING = (
    ".flatten",
    ".reshape",
    "squeeze",
    "len",
    "ops.shape",
    "ops.cast",
    "ops.convert_to_tensor",
)


def stages(package: str, file: str, name: str) -> list[str]:
    """The lines of a forward method that compute, reduced to what they call."""
    function = next(
        item
        for item in classes(package, file)[name].body
        if getattr(item, "name", "") in ("forward", "__call__", "call")
    )
    lines = []
    for statement in function.body:
        calls = [
            ast.unparse(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)
        ]
        kept = sorted(_common(call) for call in calls if not call.endswith(RESHAPING))
        lines.append(f"{type(statement).__name__}: {', '.join(kept)}")
    return lines


def _common(call: str) -> str:
    """super().forward and super().__call__ -> super().call"""
    rest, _, name = call.rpartition(".")
    return f"super().{SAME_NAME.get(name, name)}" if rest == "super()" else call


@pytest.mark.parametrize("package", PACKAGES[1:])
@pytest.mark.parametrize(
    ("file", "name"), [each for each in MODULES if each[1] not in NATIVE_LINES]
)
def test_the_same_stage_on_the_same_line(package, file, name):
    assert stages(package, file, name) == stages("pytorch_impl", file, name)


def names_of_shapes(package: str) -> dict[str, list[str]]:
    """The axes of each name in shapes.py, in alphabetical order."""
    return {
        node.targets[0].id: sorted(ast.literal_eval(node.value.slice.elts[1]).split())
        for node in tree(package, "shapes.py").body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)
    }


def annotations(package: str, file: str) -> dict[str, list[str | None]]:
    """The shapes that functions and forward methods take and return, where they name some."""
    shapes = names_of_shapes(package)
    found: dict[str, list[str | None]] = {}
    for node in ast.walk(tree(package, file)):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_update"):
            given = [*(argument.annotation for argument in node.args.args), node.returns]
            texts = [ast.unparse(each) for each in given if each is not None]
            named = [text for text in texts if {*words(text)} - {"tuple", "list"} <= {*shapes}]
            if named:
                name = SAME_NAME.get(node.name, node.name)
                found.setdefault(name, []).extend(named)  # type: ignore[arg-type]
    return found


def words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text).split()


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_the_same_names_of_shapes(package):
    assert names_of_shapes(package) == names_of_shapes("pytorch_impl")
    assert names_of_shapes(package)["Maps"] == ["batch", "channels", "height", "width"]


@pytest.mark.parametrize("package", PACKAGES[1:])
@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("bridge/")])
def test_the_same_shapes_in_annotations(package, file):
    """Of every public function, and of every forward method that all three define."""
    here, there = annotations(package, file), annotations("pytorch_impl", file)
    if file == "layers.py":  # whose classes inherit theirs in one framework or another
        del here["call"], there["call"]
    common = {name for name in here.keys() & there.keys() if not name.startswith("_")}
    assert {name: here[name] for name in common} == {name: there[name] for name in common}
    assert common == {name for name in there if not name.startswith("_")}


def test_no_numbered_axes_outside_the_layouts():
    """Axis orders are named, in layouts.py; a transposition by numbers anywhere else in weights is
    a mistake.
    """
    for path in (ROOT / "weights").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
                (".transpose", ".permute", ".moveaxis")
            ):
                # In copying.py axes are in the order of memory, whatever they are.
                known = path.name in ("convert.py", "copying.py")
                assert known, f"{path.name}: {ast.unparse(node)}"
