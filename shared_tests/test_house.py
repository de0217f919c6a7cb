"""The limits of the house: sizes of files and functions, and one meaning for each public name.

Read from the syntax trees, without importing anything.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("pytorch_impl", "jax_impl", "tf_impl", "weights", "resattn")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TESTS = sorted((ROOT / "shared_tests").rglob("*.py"))

FILE_LINES, FUNCTION_LINES, COLUMNS, MEDIAN_LINES = 500, 60, 100, 7

# What `python -m` and scripts run.
ENTRY_POINTS = {"main"}
# Names that files of one kind share because they are called through it.
PROTOCOLS = {
    "weights/attention/": {"KIND", "parameters", "graph", "check", "start"},
    "weights/dialects/": {"DIALECT", "name_modules"},
    "weights/files/": {"read", "read_all", "write"},
    "resattn/benchmarks/native_": {"native_model"},
    "resattn/explaining/": {"WORDS"},
    "resattn/reading/": {"PRIMITIVES"},
    "resattn/recognition/": {"WORDS"},
}
# A function of the library, and the command or the part of a model that offers the same.
SAME_MEANING = {
    "resattn/cli/": {
        *("attach", "check", "compare", "draw", "drift", "explain", "port", "record", "say"),
    },
    "resattn/oracle/": {
        "relu", "sigmoid", "hard_sigmoid", "max_pool", "average", "average_around", "maximum",
        "greater", "global_average", "concatenate", "softmax", "cross_entropy", "average_pool",
        "blur_pool", "subsample",
    },  # as in layers.py and training.py of the three packages
    "resattn/checking/backends.py": {"precise", "flags"},  # of any framework, by its adapter
    "resattn/tracing/trace.py": {"trace"},
    "weights/convert.py": {"to_native", "to_canonical"},  # of arrays, there of live parameters
    "weights/operations.py": {"GATES"},
    "weights/resize.py": {"preprocess"},  # of NumPy, there of a framework
    "weights/attention/kinds.py": {"ATTENTION"},
}  # fmt: skip


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def too_long(source: str) -> list[str]:
    """What exceeds a limit in the text of a file: the file, functions, lines."""
    lines = source.splitlines()
    found = [f"{len(lines)} lines"] if len(lines) > FILE_LINES else []
    found += [
        f"{function.name}: {length(function)} lines"
        for function in functions(source)
        if length(function) > FUNCTION_LINES
    ]
    return found + [
        f"line {number}: {len(line)} columns"
        for number, line in enumerate(lines, 1)
        if len(line) > COLUMNS
    ]


def public_names(source: str) -> set[str]:
    """What a module defines at its top level under a public name."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def shared_names(sources: dict[str, str]) -> dict[str, list[str]]:
    """Names that more than one file defines, without those that `PROTOCOLS` and `SAME_MEANING`
    account for. sources: the text of each file by its path.
    """
    homes: dict[str, list[str]] = {}
    for path, source in sources.items():
        known = set().union(
            *(names for place, names in PROTOCOLS.items() if path.startswith(place)),
            *(names for place, names in SAME_MEANING.items() if path.startswith(place)),
        )
        for name in public_names(source) - known - ENTRY_POINTS:
            homes.setdefault(name, []).append(path)
    return {name: paths for name, paths in homes.items() if len(paths) > 1}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_sizes(path):
    assert too_long(path.read_text()) == []


def test_the_median_function():
    lengths = [length(each) for path in FILES for each in functions(path.read_text())]
    assert len(lengths) > 1000
    assert median(lengths) <= MEDIAN_LINES


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_columns_of_tests(path):
    assert [line for line in path.read_text().splitlines() if len(line) > COLUMNS] == []


def test_each_public_name_has_one_meaning():
    """The three packages define the same names, so one of them is enough."""
    sources = {
        relative(path): path.read_text()
        for path in FILES
        if path.relative_to(ROOT).parts[0] not in ("jax_impl", "tf_impl")
    }
    assert shared_names(sources) == {}


def test_that_these_tests_can_fail():
    body = "    pass\n" * 60
    assert too_long(f"def f():\n{body}") == ["f: 61 lines"]
    assert too_long("x = 1\n" * 501) == ["501 lines"]
    assert too_long(f"x = '{'a' * 100}'\n") == ["line 1: 106 columns"]
    planted = {
        "weights/a.py": "def read(): ...\nA = 1",
        "resattn/b.py": "class read: ...\nB: int = 1",
    }
    assert shared_names(planted) == {"read": [*planted]}
    assert shared_names({"weights/files/a.py": "def read(): ...", "resattn/b.py": "read = 1"}) == {}
