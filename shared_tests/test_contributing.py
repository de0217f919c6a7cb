"""The recipes of docs/recipes.md work as they are written.

The first two are followed in a copy of the repository, where one process runs `recipe_checks.py`.
Of the third, everything that it names must exist.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from shared_tests.recipes import (
    ATTENTION_KIND,
    DIALECT,
    DOCUMENT,
    VERSION,
    blocks_of,
    change,
    commands_of,
    follow,
    text_under,
)
from shared_tests.test_readme import MADE, links
from weights.frameworks import FRAMEWORKS

ROOT = Path(__file__).parent.parent
PACKAGES = ("pytorch_impl", "jax_impl", "tf_impl")
COPIED = ("weights", "resattn", *PACKAGES, "shared_tests", "docs")
FLAGS = re.search(r'(?m)^FAST := XLA_FLAGS="(.*)"', (ROOT / "Makefile").read_text(encoding="utf-8"))


@pytest.fixture
def copy(tmp_path):
    """A copy of the repository, without the environment and what git keeps."""
    for folder in COPIED:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, tmp_path)
    return tmp_path


def test_recipes_work(all_frameworks, copy):
    made = [*follow(ATTENTION_KIND, copy), *follow(DIALECT, copy)]
    assert set(made) == MADE - {"docs/gpu.json"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider",
         "shared_tests/recipe_checks.py"],
        cwd=copy, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(copy), "XLA_FLAGS": FLAGS[1]},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed in", done.stdout)
    assert "skipped" not in done.stdout


def test_what_a_recipe_says_wrong_is_found(tmp_path):
    text = "a\nb\nc\nb\n"
    assert change(text, " a\n+new\n@@\n c\n+last\n") == "a\nnew\nb\nc\nlast\nb\n"
    assert change(text, "+new\n c\n") == "a\nb\nnew\nc\nb\n"
    for changes, count in ((" b\n+new\n", 2), (" a\n c\n+new\n", 0)):
        with pytest.raises(AssertionError, match=f"found {count} times"):
            change(text, changes)
    (tmp_path / "weights" / "attention").mkdir(parents=True)
    (tmp_path / "weights" / "attention" / "pa.py").touch()
    with pytest.raises(AssertionError, match=r"pa\.py is there already"):
        follow(ATTENTION_KIND, tmp_path)


def test_the_recipes_are_linked():
    assert {link.partition("#")[0] for link in links("CONTRIBUTING.md")} >= {DOCUMENT}
    for recipe in (ATTENTION_KIND, DIALECT, VERSION):
        assert blocks_of(recipe)


# Raising a version. test_readme.py looks for the files, commands and targets.


def test_packages_of_the_recipe():
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = re.findall(r"`([\w-]+)==`", text_under(VERSION))
    assert {"torch", "jax", "flax", "keras", "tensorflow"} <= set(named)
    for package in named:
        assert sum(line.startswith(f"{package}==") for line in pinned) == 1, package


def test_names_in_the_files_of_the_recipe():
    found = re.findall(r"`(\w+)`\s+(?:in|of)\s+`([\w./]+)`", text_under(VERSION))
    assert len(found) >= 7
    for name, file in found:
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(rf"\b{name}\b", text), f"{name} in {file}"


def test_files_of_the_recipe():
    """Those in the comments of commands as well. deploy.py and layers.py: in each package."""
    found = re.findall(r"[\w./-]+\.(?:md|py|ipynb|txt|toml)\b", text_under(VERSION))
    assert {"constraints.txt", "docs/calibration.md", "docs/gpu.md"} <= set(found)
    for file in found:
        places = PACKAGES if file in ("deploy.py", "layers.py") else ("",)
        assert all((ROOT / place / file).exists() for place in places), file


def test_commands_of_the_recipe():
    targets = re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
    for name, *words in commands_of(VERSION):
        assert name in ("make", "git", "python")
        assert name != "make" or {word for word in words if "=" not in word} <= set(targets)
        assert name != "python" or (words[0] == "-m" and find_spec(words[1]))


def test_workarounds_are_found():
    """The pattern of the recipe finds the comments that name a version."""
    (words,) = [words for words in commands_of(VERSION) if words[:2] == ["git", "grep"]]
    pattern = re.compile(words[3])
    for file in ("tf_impl/bridge/recorder.py", "jax_impl/maxima.py", "docs/differences.md"):
        assert pattern.search((ROOT / file).read_text(encoding="utf-8")), file
    assert words[2] == "-nE"


def test_defaults_of_the_frameworks(framework):
    """weights/frameworks.py has the defaults of the version that is installed."""
    row = FRAMEWORKS[framework]
    assert (*row.batch_norm, row.layer_norm) == pytest.approx(DEFAULTS[framework](), rel=1e-12)


def _torch_defaults():
    from torch import nn

    norm = nn.BatchNorm2d(1)
    return norm.eps, 1 - norm.momentum, nn.LayerNorm(1).eps


def _flax_defaults():
    from flax import nnx

    norm = nnx.BatchNorm(1, rngs=nnx.Rngs(0))
    return norm.epsilon, norm.momentum, nnx.LayerNorm(1, rngs=nnx.Rngs(0)).epsilon


def _keras_defaults():
    from keras import layers

    norm = layers.BatchNormalization()
    return norm.epsilon, norm.momentum, layers.LayerNormalization().epsilon


DEFAULTS = {"torch": _torch_defaults, "jax": _flax_defaults, "tf": _keras_defaults}
