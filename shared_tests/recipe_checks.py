"""What must be true once the recipes are followed. `test_contributing.py` runs this in the copy of
the repository in which it has followed them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import weights
from resattn.checking import golden
from resattn.checking.backends import precise
from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from resattn.checking.crosscheck import crosscheck
from resattn.cli.app import app
from resattn.explaining.words import WORDS
from shared_tests import crow as crow_library
from shared_tests import (
    test_attach,
    test_attention,
    test_benchmarks,
    test_definitions,
    test_house,
    test_imports,
    test_structure,
)
from shared_tests.interop import LIMIT, draw_images
from shared_tests.libraries import randomize_torch
from shared_tests.recipes import ATTENTION_KIND, DIALECT, blocks_of, commands_of, files_of
from weights.dialects import DIALECTS
from weights.live import adapter, build

ROOT = Path(__file__).parent.parent
FILE = "attention/pa.py"
IMPLEMENTATIONS = ("pytorch_impl", "jax_impl", "tf_impl")
CHANGED = [
    file
    for recipe in (ATTENTION_KIND, DIALECT)
    for block in blocks_of(recipe)
    if block.language
    for file in files_of(block)
    if file.endswith(".py")
]


def test_it_is_the_copy():
    assert Path(weights.__file__).parent.parent == ROOT
    assert "pa" in KINDS_AND_OPTIONS
    assert "crow" in DIALECTS


# The house


@pytest.mark.parametrize("file", dict.fromkeys(CHANGED))
def test_limits_and_imports(file):
    text = (ROOT / file).read_text(encoding="utf-8")
    package = file.split("/")[0]
    if package != "shared_tests":
        assert test_house.too_long(text) == []
        assert test_imports.forbidden(package, file, text) == []
    assert max(map(len, text.splitlines())) <= test_house.COLUMNS


def test_names():
    sources = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for package in ("weights", "resattn", "pytorch_impl")
        for path in (ROOT / package).rglob("*.py")
    }
    new = {"PixelAttention", "pixel_attention"}
    shared = test_house.shared_names(sources)
    assert new <= set().union(*map(test_house.public_names, sources.values()))
    assert not [paths for paths in shared.values() if any(path in CHANGED for path in paths)]


def test_ruff():
    for command in (("check",), ("format", "--check")):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *dict.fromkeys(CHANGED)],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", IMPLEMENTATIONS[1:])
def test_structure_of_the_packages(package):
    assert (FILE, "PixelAttention") in test_structure.MODULES
    test_structure.test_the_same_files(package)
    test_structure.test_the_same_definitions_in_the_same_order(package, FILE)
    test_structure.test_the_same_public_names(package)
    test_structure.test_the_same_members_in_the_same_order(package, FILE, "PixelAttention")
    test_structure.test_the_same_stage_on_the_same_line(package, FILE, "PixelAttention")
    test_structure.test_the_same_shapes_in_annotations(package, FILE)
    assert "PixelAttention" in test_structure.classes(package, FILE)


# The kind


def test_the_lists_of_kinds():
    test_attention.test_the_same_kinds_everywhere()
    test_attention.test_every_option_is_in_the_cases()
    test_attention.test_every_kind_says_what_it_is("pa")
    for package in IMPLEMENTATIONS:
        test_attention.test_options_and_defaults_are_those_of_the_schema(package, "pa")
    test_benchmarks.test_every_kind_has_a_plain_version()
    test_attach.test_every_kind_has_a_start_or_a_reason()
    assert test_attach.FACTORS["pa"] == weights.attention.ATTENTION["pa"].start(4).factor
    test_definitions.test_every_kind_has_a_published_version()
    test_definitions.test_defaults_are_the_published_ones("pa")
    assert set(WORDS["en"]) == set(WORDS["zh"])
    row = "| `ese` | Lee & Park 2020 | the same with one full layer and a hard sigmoid |\n| `pa` |"
    assert row in (ROOT / "docs/attention.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("options", KINDS_AND_OPTIONS["pa"], ids=str)
def test_definition(options):
    test_definitions.test_oracle_computes_what_was_published(torch, "pa", options, (7, 10), True)


@pytest.mark.parametrize("options", KINDS_AND_OPTIONS["pa"], ids=str)
def test_the_frameworks_agree(all_frameworks, options):
    """In float64, which decides."""
    report = crosscheck(attention_block("pa", options), dtype="float64", size=(9, 8))
    assert report.ok, report
    assert len(report.environment) == len(all_frameworks) == 3


def test_golden_vectors():
    golden.write_problems("attention-pa")
    assert golden.read_problem("attention-pa", "float64").config.attention == "pa"


# The dialect


@pytest.fixture(scope="module")
def crow():
    """A crownet10 of the library for 7 classes, with random weights and statistics."""
    model = crow_library.make_crownet(7).double().eval()
    randomize_torch(model, 0)
    return model


def test_the_dialect_computes_what_the_library_does(crow):
    found = weights.adopt(crow)
    assert found.config.classes == 7
    assert found.notes[-1].startswith("crownet10 of crow (no other network that we know")
    x = draw_images((33, 39), count=2)
    with torch.no_grad():
        expected = crow(torch.from_numpy(x)).numpy()
    with precise(("torch",), "float64"):
        model = build(found.config, found.arrays, "torch")
        ours = adapter("torch").forward(model, x)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=LIMIT * np.abs(expected).max())


def test_commands(crow, monkeypatch, tmp_path):
    """Those of both recipes, with a file that the library has written."""
    monkeypatch.chdir(tmp_path)
    theirs = {name: value.float().numpy() for name, value in crow.state_dict().items()}
    theirs = {name: value for name, value in theirs.items() if value.ndim}  # not the counters
    save_file(theirs, "crownet10.safetensors")
    outputs = {}
    for words in (*commands_of(ATTENTION_KIND), *commands_of(DIALECT)):
        if words[0] == "resattn":
            done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
            assert done.exit_code == 0, done.output
            outputs[words[1]] = " ".join(done.output.split())
    assert "Zhao et al. 2020" in outputs["attention"]
    assert "attention.conv" in outputs["explain"]
    assert "<svg" in Path("pa.svg").read_text(encoding="utf-8")
    assert "crownet10 of crow" in outputs["inspect"]
    assert "load it with crow, strictly, into its crownet10" in outputs["port"]
    back = load_file("theirs.safetensors")
    assert set(back) == set(theirs)
    assert all(back[name].tobytes() == theirs[name].tobytes() for name in theirs)
