"""Files of a user's own, imported by their path: what they are called, and what they may import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BEGIN = "from pathlib import Path\nfrom resattn.cli.imports import import_file\n"


def run(folder, code):
    """What a new process prints, with its lines."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", BEGIN + code],
        capture_output=True, text=True, cwd=folder, env={"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["weights", "random", "json", "numpy"])
def test_a_file_replaces_no_library(tmp_path, name):
    """One that is imported already, and one that can be found."""
    (tmp_path / f"{name}.py").write_text("import beside\nOWN = beside.VALUE\n")
    (tmp_path / "beside.py").write_text("VALUE = 3\n")
    code = (
        f"module = import_file(Path('{name}.py'))\n"
        f"import {name}, os, sys\n"
        f"print(module.OWN, hasattr({name}, 'OWN'), sys.modules[module.__name__] is module)\n"
        "print(sys.path[-1] == os.getcwd())\n"
    )
    assert run(tmp_path, code) == ["3 False True", "True"]


def test_a_file_keeps_its_name(tmp_path):
    (tmp_path / "my_own_net.py").write_text("class Net: pass\n")
    code = "print(*[import_file(Path('my_own_net.py')).__name__ for _ in range(2)])\n"
    assert run(tmp_path, code) == ["my_own_net my_own_net"]


def test_a_file_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "my_own_net.py").write_text("raise ValueError('mine')\n")
    code = (
        "import sys\n"
        "try:\n"
        "    import_file(Path('my_own_net.py'))\n"
        "except ValueError as error:\n"
        "    print(error, 'my_own_net' in sys.modules)\n"
    )
    assert run(tmp_path, code) == ["mine False"]


def test_a_file_in_a_package(tmp_path):
    """It can import what is beside it with a dot, and the package is the one that it is in."""
    inner = tmp_path / "my_package" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("")
    (inner.parent / "layers.py").write_text("VALUE = 3\n")
    (inner / "mod.py").write_text("from ..layers import VALUE\n")
    code = (
        "module = import_file(Path('my_package/inner/mod.py'))\n"
        "import sys\n"
        "print(module.__name__, module.VALUE, 'my_package.layers' in sys.modules)\n"
        "print(import_file(Path('my_package/__init__.py')).__name__)\n"
    )
    assert run(tmp_path, code) == ["my_package.inner.mod 3 True", "my_package"]
