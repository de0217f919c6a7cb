"""Who may import whom: by reading the files, and by importing each package in a process that has
nothing else.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from weights import BlockConfig

ROOT = Path(__file__).parent.parent
FRAMEWORK_MODULES = {
    "pytorch_impl": {"torch"},
    "jax_impl": {"jax", "jaxlib", "flax", "optax"},
    "tf_impl": {"keras", "tensorflow"},
}
ALL_FRAMEWORKS = set().union(*FRAMEWORK_MODULES.values())
OURS = {*FRAMEWORK_MODULES, "weights", "shared_tests", "resattn"}
# What each package may import anywhere, and what only inside of functions, when it is needed.
ALLOWED = {
    "weights": {"numpy", "ml_dtypes", "safetensors", "weights"},
    **{
        package: {*own, "numpy", "weights", package, "jaxtyping"}
        for package, own in FRAMEWORK_MODULES.items()
    },
    "resattn": {
        *("numpy", "ml_dtypes", "safetensors", "threadpoolctl", "typer", "rich"),
        *("weights", "resattn"),
    },
}
WHEN_NEEDED = {
    "weights": {"h5py", "huggingface_hub", "orbax", "tensorstore"},  # of file formats
    "resattn": {
        *(*ALL_FRAMEWORKS, *FRAMEWORK_MODULES, "sklearn", "resvg_py", "typst", "PIL", "timm"),
        *("jinja2", "markupsafe", "matplotlib"),
        *("nbformat", "nbclient", "jupyter_client", "babel", "fontTools"),
    },
}
# Imports by name, when they are called: an implementation by weights.live, the module of the
# backend that Keras runs on, what a user names on the command line.
BY_NAME = {
    "weights/__init__.py": {"_HOMES[name]"},
    "weights/files/opening.py": {"f'weights.files.{FILE_FORMATS[suffix]}'"},
    "weights/live.py": {"f'{row.package}.{name}'"},
    "tf_impl/bridge/": {"BACKEND", "jax", "torch", "tensorflow"},
    "resattn/__init__.py": {"_HOMES[name]"},
    "resattn/benchmarks/": {"package", "f'timm.layers.{file}'", "f'timm.{name}'"},
    "resattn/benchmarks/other_models.py": {"f'resattn.benchmarks.native_{framework}'"},
    "resattn/cli/imports.py": {"name"},
    "resattn/explaining/attention/__init__.py": {"f'{__name__}.{file.name}'"},
    "resattn/checking/backends.py": {"framework_named(framework).package", "flax"},
}


class Import(NamedTuple):
    """module: the dotted name. inside: whether it is in a function. by_name: in a call."""

    module: str
    inside: bool
    by_name: bool


def imports(source: str) -> list[Import]:
    """Everything a file imports, wherever in it; not what only a type checker reads."""
    found: list[Import] = []

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, inside, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.extend(_from(node, inside))
        elif isinstance(node, ast.Call) and _imports_by_name(node):
            given = node.args[0]
            text = given.value if isinstance(given, ast.Constant) else ast.unparse(given)
            found.append(Import(text, inside, True))
        deeper = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, deeper)

    visit(ast.parse(source), False)
    return [each for each in found if each.module.split(".")[0] not in sys.stdlib_module_names]


def _from(node: ast.ImportFrom, inside: bool) -> list[Import]:
    module = node.module or ""
    names = [alias.name for alias in node.names] if module == "resattn" else [""]
    return [Import(f"{module}.{name}".rstrip("."), inside, False) for name in names]


def _imports_by_name(node: ast.Call) -> bool:
    return ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")


def forbidden(package: str, path: str, source: str) -> list[str]:
    """What a file of a package imports and may not."""
    names = {each for place, known in BY_NAME.items() if path.startswith(place) for each in known}
    found = []
    for each in imports(source):
        if each.by_name and (each.module in names or each.module.split(".")[0] in names):
            continue
        allowed = ALLOWED[package] | (WHEN_NEEDED.get(package, set()) if each.inside else set())
        if each.module.split(".")[0] not in allowed:
            found.append(f"{path}: {each.module}")
    return found


def sources(package: str) -> dict[str, str]:
    paths = sorted((ROOT / package).rglob("*.py"))
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


@pytest.mark.parametrize("package", ALLOWED)
def test_what_the_files_import(package):
    files = sources(package)
    assert len(files) > 10
    assert [line for path, text in files.items() for line in forbidden(package, path, text)] == []


def rooms(files: Mapping[str, str]) -> dict[str, set[str]]:
    """The rooms of resattn that each room imports, wherever in its files."""
    found: dict[str, set[str]] = {}
    for path, source in files.items():
        if path.count("/") < 2:
            continue
        room = path.split("/")[1]
        modules = [each.module.split(".") for each in imports(source)]
        others = {parts[1] for parts in modules if parts[0] == "resattn" and len(parts) > 1}
        found.setdefault(room, set()).update(others - {room})
    return found


def test_the_rooms_form_no_circle():
    found = rooms(sources("resattn"))
    assert {"oracle", "checking", "tracing", "training", "cli"} <= set(found)
    list(TopologicalSorter(found).static_order())
    assert [room for room, others in found.items() if "cli" in others] == []


def test_a_room_that_imports_the_wrong_one_is_found():
    files = {"resattn/oracle/a.py": "from resattn.checking import b"}
    files["resattn/checking/b.py"] = "def f():\n    import resattn.oracle.a"
    with pytest.raises(CycleError):
        list(TopologicalSorter(rooms(files)).static_order())
    assert rooms({"resattn/oracle/a.py": "from resattn import cli"}) == {"oracle": {"cli"}}


def test_a_forbidden_import_is_found():
    assert forbidden("weights", "weights/a.py", "def f():\n    from torch.nn import Module")
    assert forbidden("weights", "weights/a.py", "import importlib\nimportlib.import_module('jax')")
    assert forbidden("resattn", "resattn/oracle/a.py", "import torch")
    assert not forbidden("resattn", "resattn/oracle/a.py", "def f():\n    import torch")
    assert forbidden("jax_impl", "jax_impl/bridge/a.py", "def f():\n    import torch")
    assert forbidden("tf_impl", "tf_impl/layers.py", "from resattn import oracle")
    assert forbidden("resattn", "resattn/cli/a.py", "def f():\n    from shared_tests import cases")


BLOCK = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in NAMES:
            raise ModuleNotFoundError(f"{name} is blocked", name=name.split(".")[0])
sys.meta_path.insert(0, Blocked())
"""


def blocking(*names: str) -> str:
    """Code that makes modules impossible to import, as if they were not installed."""
    return BLOCK.replace("NAMES", repr(sorted(names)))


def loaded_by(statement: str, blocked: set[str] = frozenset()) -> set[str]:
    """The modules of ours and of frameworks that a statement loads in a new process, in which some
    cannot be imported.
    """
    code = (
        f"{blocking(*blocked)}\n{statement}\nprint(' '.join(n for n in "
        f"{sorted(ALL_FRAMEWORKS | OURS)} if sys.modules.get(n) is not None))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", [
    "import weights", "import shared_tests", "import resattn.cli.app",
    "from weights import BlockConfig, schema; schema(BlockConfig(3, 4))",
])  # fmt: skip
def test_nothing_loads_a_framework_before_it_is_needed(statement):
    assert not loaded_by(statement) & {*ALL_FRAMEWORKS, *FRAMEWORK_MODULES}


def test_the_face_of_resattn_loads_nothing():
    """`import resattn` takes no time, and its names are there whatever was imported before."""
    assert loaded_by("import resattn") == {"resattn"}
    names = "crosscheck, trace, Mapped, map_model, read_model, recognise_model, explain, draw, "
    names += "record, compare, Recipe, Trainer, resume"
    before = "import resattn.tracing, resattn.drawing, resattn.training"
    loaded = loaded_by(f"{before}; from resattn import {names}; assert callable(trace)")
    assert not loaded & {*ALL_FRAMEWORKS, *FRAMEWORK_MODULES}


ONE_BLOCK = {
    "pytorch_impl": "from pytorch_impl import ResidualBlockWithAttention as Block\n"
    "import weights; weights.export(Block(3, 4, 3, 2))",
    "jax_impl": "from jax_impl import ResidualBlockWithAttention as Block\n"
    "import weights; from flax import nnx; weights.export(Block(3, 4, 3, 2, rngs=nnx.Rngs(0)))",
    "tf_impl": "from tf_impl import ResidualBlockWithAttention as Block\n"
    "import weights; weights.export(Block(3, 4, 3, 2))",
}


@pytest.mark.parametrize("package", ONE_BLOCK)
def test_one_framework_is_enough(package, request):
    """Import, build and export with the other frameworks impossible to import."""
    name = {"pytorch_impl": "torch", "jax_impl": "jax", "tf_impl": "keras"}[package]
    request.getfixturevalue(name)
    others = ALL_FRAMEWORKS - FRAMEWORK_MODULES[package]
    loaded = loaded_by(ONE_BLOCK[package], blocked=others)
    assert not loaded & (others | set(FRAMEWORK_MODULES) - {package} | {"shared_tests", "resattn"})


CHECK = """
import contextlib, io, sys
from resattn.cli.app import main
sys.argv = ["resattn", "check", "--config", CONFIG, "--frameworks", NAME]
with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
    main()
assert "The same function" in printed.getvalue(), printed.getvalue()
"""


@pytest.mark.parametrize("package", FRAMEWORK_MODULES)
def test_a_check_of_one_framework_loads_no_other(package, request):
    name = {"pytorch_impl": "torch", "jax_impl": "jax", "tf_impl": "tf"}[package]
    request.getfixturevalue("keras" if name == "tf" else name)
    config = BlockConfig(2, 3, attention="none").to_json()
    loaded = loaded_by(CHECK.replace("CONFIG", repr(config)).replace("NAME", repr(name)))
    # TensorFlow itself imports JAX where that is installed, for its converter to TensorFlow Lite.
    own = FRAMEWORK_MODULES[package] | ({"jax", "jaxlib"} if name == "tf" else set())
    assert loaded - {"weights", "resattn"} <= {package, *own}
    assert package in loaded


def test_the_test_can_fail(tmp_path):
    """A forbidden import is found in a process, too."""
    (tmp_path / "guilty.py").write_text("import json, weights\n")
    assert loaded_by(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import guilty") & OURS
    with pytest.raises(AssertionError, match="weights is blocked"):
        loaded_by("import weights", blocked={"weights"})


def test_a_required_framework_that_is_missing_fails_the_run():
    def run(*options):
        code = (
            f"{blocking('flax')}\nimport pytest\narguments = ['-q', '-p', 'no:cacheprovider', "
            "'shared_tests/test_forward.py', '-k', 'one_image', "
            f"*{options}]\nsys.exit(pytest.main(arguments))"
        )
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
        )

    without = run("--frameworks", "jax")
    assert without.returncode == 0, without.stdout + without.stderr
    assert "Flax NNX is not installed" in without.stdout
    required = run("--frameworks", "jax", "--require", "jax")
    assert required.returncode == 1
    assert "--require: Flax NNX is not installed" in required.stdout + required.stderr


def test_every_package_is_installed():
    """An editable install has all folders; another has those that pyproject.toml includes."""
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    included = {pattern.removesuffix("*") for pattern in settings["packages"]["find"]["include"]}
    assert included == OURS - {"shared_tests"}
    for package in included:
        for path in (ROOT / package).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path
