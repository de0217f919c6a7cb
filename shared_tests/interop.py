"""`python -m shared_tests.interop [NAME ...]`: every published network at full width, once.

A network of the original library with random weights, and ours with the same weights in each
framework: how far the logits and the outputs of the stages differ in float64, at an even and an odd
size, and whether the weights go back into a fresh network of theirs with the same logits. The table
of the results is in docs/checkpoints.md; what it has already is not computed again, except with
--again.

NAME: a dialect or an architecture; by default all of them.
"""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from resattn.checking.backends import precise
from shared_tests.libraries import PACKAGES, Theirs, absence, make
from weights.config import NetworkConfig
from weights.convert import Arrays
from weights.dialects import DIALECTS
from weights.dialects.recognise import Recognised, recognise, to_canonical_names, to_dialect_names
from weights.errors import ArgumentError, MissingFramework
from weights.frameworks import FRAMEWORKS
from weights.live import adapter, build, part

TABLE = Path(__file__).parent.parent / "docs" / "checkpoints.md"
NETWORKS, COLLISIONS = "networks", "collisions"  # the tables' marks
HEADER = (
    "library", "network", "recognised",
    *(row.label for row in FRAMEWORKS.values()), "odd size", "written back",
)  # fmt: skip
LIMIT = 1e-12
Row = tuple[str, ...]
EVEN = (64, 96)
# Where average pooling rounds down and a convolution up, an odd map has no shortcut of its size, in
# theirs and in ours; from the second size all maps but the image are even.
ODD = ((65, 97), (63, 95))


@dataclass(frozen=True)
class Outcome:
    """What was found of a network, as the cells of its row. faults: what should not be."""

    cells: tuple[str, ...]
    faults: tuple[str, ...]


def compare_outputs(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The greatest difference of the logits and the stages, each relative to its magnitude."""
    assert len(ours) == len(theirs)
    found = [
        float(np.abs(one - other).max() / np.abs(other).max())
        if one.shape == other.shape and np.isfinite(one).all()
        else np.inf
        for one, other in zip(ours, theirs, strict=True)
    ]
    return max(found)


def run_ours(model: Any, framework: str, x: np.ndarray) -> list[np.ndarray]:
    """The logits and the outputs of the stages of a network of ours, in canonical order."""
    native = part(framework, "bridge.native")
    logits = adapter(framework).forward(model, x)
    maps = model.features(native.to_native(model, x))[1:]
    if framework == "torch":
        maps = [each.detach() for each in maps]
    return [logits, *(native.to_canonical(each) for each in maps)]


def draw_images(size: tuple[int, int], channels: int = 3, count: int = 1) -> np.ndarray:
    """Random images in float64."""
    return np.random.default_rng(size).normal(size=(count, channels, *size))


def look(dialect: str, name: str, arrays: Arrays) -> tuple[Recognised, bool]:
    """What a network is found to be, and whether its names and shapes alone say so."""
    found = recognise(arrays, name, name)
    try:
        alone = recognise(arrays, name)
    except ArgumentError:
        return found, False
    assert alone.config == found.config
    assert name in alone.architectures
    return found, True


def try_network(dialect: str, name: str, frameworks: tuple[str, ...]) -> Outcome:
    """Everything of one network."""
    theirs = make(dialect, name)
    arrays = {key: value.copy() for key, value in theirs.arrays().items()}
    found, alone = look(dialect, name, arrays)
    canonical = to_canonical_names(found, arrays, name)
    x = [draw_images(EVEN)]
    answers = [theirs.run(x[0])]
    size, refused = ODD[0], []
    for size in ODD:
        images = draw_images(size)
        try:
            answers.append(theirs.run(images))
            x.append(images)
            break
        except (RuntimeError, ValueError):
            refused.append(images)
    differences, faults = {}, []
    for framework in frameworks:
        with precise((framework,), "float64"):
            model = build(found.config, canonical, framework)
            differences[framework] = max(
                compare_outputs(run_ours(model, framework, images), answer)
                for images, answer in zip(x, answers, strict=True)
            )
            faults += [f"{framework} takes a size that {name} refuses" for images in refused
                       if not _refuses(model, framework, images)]  # fmt: skip
            del model
        faults += [f"{framework}: {differences[framework]}"] * (differences[framework] > LIMIT)
    back = _write_back(dialect, name, found, canonical, x[0], answers[0][0])
    faults += [] if back else ["written back: other logits"]
    cells = (
        DIALECTS[dialect].title, f"`{name}`", "by names and shapes" if alone else "with `--as`",
        *(f"{differences[each]:.0e}" if each in differences else "" for each in FRAMEWORKS),
        "x".join(map(str, size)), "same bits" if back else "**other logits**",
    )  # fmt: skip
    return Outcome(cells, tuple(faults))


def _refuses(model: Any, framework: str, x: np.ndarray) -> bool:
    try:
        adapter(framework).forward(model, x)
    except ValueError:
        return True
    return False


def _write_back(
    dialect: str, name: str, found: Recognised, arrays: Arrays, x: np.ndarray, logits: np.ndarray
) -> bool:
    """Whether our weights under their names, in another network of theirs, give the same logits."""
    other: Theirs = make(dialect, name, seed=1)
    other.load(to_dialect_names(DIALECTS[dialect], found.config, arrays))
    return bool((other.run(x)[0] == logits).all())


def list_networks(wanted: list[str]) -> Iterator[tuple[str, str]]:
    """The dialect and the name of each network. wanted: of them, all if there are none."""
    for dialect, row in DIALECTS.items():
        for name in row.architectures:
            if not wanted or dialect in wanted or name in wanted:
                yield dialect, name


def their_shapes(dialect: str, config: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a checkpoint of a config, as the library has them."""
    row = FRAMEWORKS[DIALECTS[dialect].framework]
    return {
        name: tuple(
            dict(zip(each.axes.split(), each.shape, strict=True))[axis]
            for axis in row.axes(each).split()
        )
        for name, each in DIALECTS[dialect].names(config).items()
    }


def list_collisions() -> list[tuple[str, str]]:
    """The networks whose names and shapes are the same, and in what each computes something else,
    in one row.
    """
    groups: dict[frozenset[Any], dict[NetworkConfig, list[str]]] = {}
    for dialect, name in list_networks([]):
        config = DIALECTS[dialect].architecture(name)
        key = frozenset(their_shapes(dialect, config).items())
        names = groups.setdefault(key, {}).setdefault(config, [])
        if name not in names:
            names.append(name)
    rows = []
    for group in groups.values():
        if len(group) > 1:
            fields = [name for name in NetworkConfig.__dataclass_fields__
                      if len({getattr(config, name) for config in group}) > 1]  # fmt: skip
            networks = ", ".join(f"`{' or '.join(names)}`" for names in group.values())
            values = [", ".join(str(getattr(each, name)) for each in group) for name in fields]
            differ = "; ".join(
                f"`{name}`: {value}" for name, value in zip(fields, values, strict=True)
            )
            rows.append((networks, differ))
    return sorted(rows)


def read_rows(text: str, table: str) -> list[tuple[str, ...]]:
    """The rows of a table of the page, without its head."""
    body = text.split(f"<!-- {table}: start -->\n")[1].split(f"<!-- {table}: end -->")[0]
    lines = [line.strip("|").split("|") for line in body.splitlines()]
    return [tuple(cell.strip() for cell in line) for line in lines[2:]]


def write_rows(text: str, table: str, header: Row, rows: list[Row]) -> str:
    """The page with these rows in a table."""
    lines = [header, ("---",) * len(header), *rows]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    start, end = f"<!-- {table}: start -->\n", f"<!-- {table}: end -->"
    before, rest = text.split(start)
    return before + start + body + end + rest.split(end)[1]


def read_table(text: str) -> dict[tuple[str, str], Row]:
    """The results, by library and network."""
    return {(row[0], row[1]): row for row in read_rows(text, NETWORKS)}


def write_tables(rows: dict[tuple[str, str], Row]) -> None:
    """Puts the results in the order of the dialects, and the collisions; leaves the rest."""
    order = [(DIALECTS[dialect].title, f"`{name}`") for dialect, name in list_networks([])]
    collisions = list_collisions()
    text = TABLE.read_text(encoding="utf-8")
    text = write_rows(text, NETWORKS, HEADER, [rows[key] for key in order if key in rows])
    text = write_rows(text, COLLISIONS, ("networks", "differ in"), collisions)
    TABLE.write_text(text, encoding="utf-8")


def _frameworks() -> tuple[str, ...]:
    found = []
    for framework in FRAMEWORKS:
        try:
            adapter(framework)
        except MissingFramework as error:
            print(error)
            continue
        found.append(framework)
    return tuple(found)


def main() -> None:
    """Fills the table, a network at a time. Exits with 1 if a network is another than theirs."""
    wanted = [word for word in sys.argv[1:] if word != "--again"]
    frameworks, failed = _frameworks(), []
    write_tables(read_table(TABLE.read_text(encoding="utf-8")))
    for number, (dialect, name) in enumerate(list_networks(wanted)):
        key = (DIALECTS[dialect].title, f"`{name}`")
        rows = read_table(TABLE.read_text(encoding="utf-8"))
        filled = [cell for cell in rows.get(key, ()) if re.fullmatch(r"\d.*", cell)]
        if len(filled) > len(frameworks) and "--again" not in sys.argv:
            continue
        package = PACKAGES[dialect]
        if package and (reason := absence(package)):
            print(f"{name}: {reason}")
            failed.append(name)
            continue
        start = monotonic()
        outcome = try_network(dialect, name, frameworks)
        write_tables(read_table(TABLE.read_text(encoding="utf-8")) | {key: outcome.cells})
        print(f"{' '.join(outcome.cells)} ({monotonic() - start:.0f} s)", flush=True)
        for fault in outcome.faults:
            print(f"  {fault}", flush=True)
            failed.append(name)
        _let_go(number)
    sys.exit(f"not the same: {', '.join(dict.fromkeys(failed))}" if failed else 0)


def _let_go(number: int) -> None:
    """What JAX has compiled for one network is of use to the next, but takes memory maps."""
    if "jax" in sys.modules and number % 8 == 7:
        sys.modules["jax"].clear_caches()
    if "keras" in sys.modules:
        sys.modules["keras"].utils.clear_session()
    gc.collect()


if __name__ == "__main__":
    main()
