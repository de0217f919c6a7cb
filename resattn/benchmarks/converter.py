"""How fast weights go between files and live models, beside a plain copy of the same bytes.

`python -m resattn.benchmarks.converter PROGRAM FOLDER WAY` goes one way once, between files that
are in the folder, and prints as JSON how much memory it took. A process that has done something
before would hide memory, since its allocator keeps what was freed.
"""

from __future__ import annotations

import json
import mmap
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np

from resattn.benchmarks.cases import NUMPY
from resattn.benchmarks.channels import run_fresh
from weights.config import Config
from weights.files import npz, safetensors
from weights.files.formats import build_from, read_header, read_into, save, transfer, write
from weights.live import LiveModel, adapter
from weights.schema import schema

_SAMPLING = 0.002  # seconds between two looks at the memory
_STATUS = Path("/proc/self/status")  # of Linux
_SOURCE, _ARCHIVE = "source.safetensors", "source.npz"
_NEW = "file to new model"


@dataclass(frozen=True)
class Measurement:
    """What one way took, in rounds that alternate with a plain copy of the same bytes.

    name: of the way. nbytes: of the values. seconds, plain_seconds: of each round.
    memory: the most anonymous memory that the way and its result took in a fresh process, in bytes
        above what there was after the imports. None where the system does not say, and for ways
        that need a model first.
    """

    name: str
    nbytes: int
    seconds: tuple[float, ...]
    plain_seconds: tuple[float, ...]
    memory: int | None = None

    @property
    def rate(self) -> float:
        """Bytes a second, the median."""
        return self.nbytes / statistics.median(self.seconds)

    @property
    def ratio(self) -> float:
        """The rate as a part of that of the plain copy, the median of the rounds."""
        pairs = zip(self.seconds, self.plain_seconds, strict=True)
        return statistics.median(plain / own for own, plain in pairs)


def measure_converter(
    framework: str, config: Config, folder: Path, rounds: int = 5
) -> list[Measurement]:
    """Files of random weights of a config, into models of a framework and out of them.

    folder: for files of three times the size of the weights.
    """
    source = write_random(config, folder / _SOURCE)
    size = read_size(source)
    memory = _measure_memory_afresh(framework, folder, _NEW)
    model = build_from(source, framework)
    live = LiveModel.of(model)
    target = folder / "target.safetensors"
    stored = read_header(source).arrays
    to_memory: dict[str, Callable[[], object]] = {
        "file to model": lambda: read_into(model, source),
        "file to model, without checksums": lambda: live.load(stored),
        "model to arrays": live.export,
    }
    to_file: dict[str, Callable[[], object]] = {
        "model to file": lambda: save(target, model),
        "model to file, without checksums": lambda: safetensors.write(target, {}, live.see()),
    }
    new = _measure(_NEW, size, lambda: build_from(source, framework),
                   lambda: copy_to_memory(source), rounds)  # fmt: skip
    return [
        replace(new, memory=memory),
        *_measure_all(to_memory, size, lambda: copy_to_memory(source), rounds),
        *_measure_all(to_file, size, lambda: copy_file(source, target), rounds),
    ]


def measure_files(config: Config, folder: Path, rounds: int = 5) -> list[Measurement]:
    """Files of random weights of a config, into files. Needs no framework.

    folder: for files of five times the size of the weights.
    """
    source = write_random(config, folder / _SOURCE)
    write_random(config, folder / _ARCHIVE)
    target = folder / "target.safetensors"
    measured = _measure_all(
        _file_ways(folder), read_size(source), lambda: copy_file(source, target), rounds
    )
    return [
        replace(each, memory=_measure_memory_afresh(NUMPY, folder, each.name)) for each in measured
    ]


def _file_ways(folder: Path) -> dict[str, Callable[[], object]]:
    """The ways from the files of random weights in a folder to files beside them, by name."""
    source, archive = folder / _SOURCE, folder / _ARCHIVE
    target, packed = folder / "target.safetensors", folder / "target.npz"
    plain = read_header(source).arrays
    unchecked = read_header(archive).arrays
    return {
        "safetensors to safetensors": lambda: transfer(read_header(source), target),
        "safetensors to safetensors, without checksums": lambda: safetensors.write(
            target, {}, plain
        ),
        "npz to npz": lambda: transfer(read_header(archive), packed),
        "npz to npz, without checksums": lambda: npz.write(packed, {}, unchecked),
        "safetensors to npz": lambda: transfer(read_header(source), packed),
    }


def write_random(config: Config, path: Path) -> Path:
    """A file of random weights in float32. Returns its path."""
    draws = np.random.default_rng(0)
    shapes = {each.name: each.shape for each in schema(config)}
    arrays = {
        name: draws.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()
    }
    write(path, config, arrays)
    return path


def read_size(path: Path) -> int:
    """The bytes of the values in a file."""
    return sum(array.nbytes for array in read_header(path).arrays.values())


def copy_to_memory(path: Path) -> np.ndarray:
    """A plain copy of a file into new memory, from where the system has it mapped."""
    with path.open("rb") as file:
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(held, np.uint8).copy()


def copy_file(source: Path, target: Path) -> None:
    """A plain copy of a file, on the disk when it returns, as our files are."""
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())


def measure_memory(work: Callable[[], object]) -> int | None:
    """The most anonymous memory that `work` and its result take, in bytes, above what the process
    has before. Less than `work` uses where the process holds memory that it has freed.
    """
    if not _STATUS.exists():
        return None
    before = peak = _anonymous()
    done = Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(_SAMPLING):
            peak = max(peak, _anonymous())

    sampler = Thread(target=look)
    sampler.start()
    try:
        kept = work()
        peak = max(peak, _anonymous())
        del kept
    finally:
        done.set()
        sampler.join()
    return peak - before


def _measure_memory_afresh(program: str, folder: Path, way: str) -> int | None:
    found: int | None = run_fresh(__name__, program, folder, way)["memory"]
    return found


def _anonymous() -> int:
    """Bytes of memory of this process that are in no file."""
    with closing(_STATUS.open()) as status:
        line = next(each for each in status if each.startswith("RssAnon:"))
    return int(line.split()[1]) * 1024


def _measure_all(
    ways: Mapping[str, Callable[[], object]], size: int, plain: Callable[[], Any], rounds: int
) -> list[Measurement]:
    return [_measure(name, size, work, plain, rounds) for name, work in ways.items()]


def _measure(
    name: str, size: int, work: Callable[[], Any], plain: Callable[[], Any], rounds: int
) -> Measurement:
    for warm_up in (work, plain):
        warm_up()
    pairs = [(_time(work), _time(plain)) for _ in range(rounds)]
    seconds, plain_seconds = zip(*pairs, strict=True)
    return Measurement(name, size, seconds, plain_seconds)


def _time(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    program, folder, way = sys.argv[1:]
    if program == NUMPY:
        work = _file_ways(Path(folder))[way]
    else:
        adapter(program)  # imported before the memory is looked at
        work = {_NEW: lambda: build_from(Path(folder) / _SOURCE, program)}[way]
    print(json.dumps({"memory": measure_memory(work)}))


if __name__ == "__main__":
    main()
