"""Who may import whom: by reading the files, and by importing each package in a process that has
nothing else.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FRAMEWORK_MODULES = {
    "pytorch_impl": {"torch"},
    "jax_impl": {"jax", "jaxlib", "flax", "optax"},
    "tf_impl": {"keras", "tensorflow"},
}
ALL_FRAMEWORKS = set().union(*FRAMEWORK_MODULES.values())
OURS = {*FRAMEWORK_MODULES, "weights", "shared_tests", "resattn"}
ALLOWED = {
    "weights": {"numpy", "ml_dtypes", "safetensors", "weights"},
    **{
        package: {*own, "numpy", "weights", package, "jaxtyping"}
        for package, own in FRAMEWORK_MODULES.items()
    },
}
# Imports by name, when they are called: an implementation by weights.port, and the module of the
# backend that Keras runs on.
BY_NAME = {
    "weights/live.py": {"f'{package}.{name}'"},
    "tf_impl/bridge/adapter.py": {"BACKEND", "jax", "torch", "tensorflow"},
    "tf_impl/bridge/native.py": {"jax", "torch", "tensorflow"},
    "tf_impl/bridge/recorder.py": {"jax", "torch", "tensorflow"},
}


def imported(source: str) -> set[str]:
    """Top-level names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            names.add(
                ast.literal_eval(node.args[0])
                if isinstance(node.args[0], ast.Constant)
                else ast.unparse(node.args[0])
            )
    return names - set(sys.stdlib_module_names)


@pytest.mark.parametrize("package", ALLOWED)
def test_what_the_files_import(package):
    for path in (ROOT / package).rglob("*.py"):
        allowed = ALLOWED[package] | BY_NAME.get(path.relative_to(ROOT).as_posix(), set())
        assert imported(path.read_text()) <= allowed, path.name


def test_nothing_imports_the_tests():
    for package in OURS - {"shared_tests"}:
        for path in (ROOT / package).rglob("*.py"):
            assert "shared_tests" not in imported(path.read_text()), path


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


ONE_BLOCK = {
    "pytorch_impl": "import pytorch_impl, weights; weights.export(pytorch_impl.ResidualBlockWithAttention(3, 4, 3, 2))",
    "jax_impl": "import jax_impl, weights; from flax import nnx\n"
    "weights.export(jax_impl.ResidualBlockWithAttention(3, 4, 3, 2, rngs=nnx.Rngs(0)))",
    "tf_impl": "import tf_impl, weights; weights.export(tf_impl.ResidualBlockWithAttention(3, 4, 3, 2))",
}


@pytest.mark.parametrize("package", ONE_BLOCK)
def test_one_framework_is_enough(package, request):
    """Import, build and export with the other frameworks impossible to import."""
    name = {"pytorch_impl": "torch", "jax_impl": "jax", "tf_impl": "keras"}[package]
    request.getfixturevalue(name)
    others = ALL_FRAMEWORKS - FRAMEWORK_MODULES[package]
    loaded = loaded_by(ONE_BLOCK[package], blocked=others)
    assert not loaded & (others | set(FRAMEWORK_MODULES) - {package} | {"shared_tests", "resattn"})


def test_the_test_can_fail(tmp_path):
    """Both ways of looking find a forbidden import."""
    assert "torch" in imported("def f():\n    from torch.nn import Module")
    assert "torch" in imported("import importlib\nimportlib.import_module('torch')")
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
