"""Runs in files: safetensors, with everything but the arrays as JSON in the metadata.

The arrays are `inputs`, one for each stage ("eval forward conv1": whole, or its sample), and those
of training and weights. Nothing in a file is executed, and everything that it says is checked.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from resattn.checking.rounding import MODES
from resattn.recording.run import LOSS, RecordedTensor, Run, TrainingSteps, list_held
from resattn.tracing.comparison import RECORDED
from resattn.tracing.findings import Finding, Trace
from resattn.tracing.sampling import STATISTICS, Sample, SampledRecording, draw_positions
from weights import Difference, schema
from weights.checks import is_integer, list_names, quote
from weights.config_json import config_from_json
from weights.convert import check
from weights.errors import ArgumentError, WeightsError
from weights.fields import parse_json
from weights.files import label as labels
from weights.files import safetensors
from weights.files.atomic import existing
from weights.files.label import check_arrays, check_label, make_label
from weights.files.limits import MOST_HEADER
from weights.fingerprint import fingerprint
from weights.graph import IMAGE
from weights.language import in_english
from weights.recipe import Recipe
from weights.stored import read_arrays

RECORDING_VERSION = 1
INPUTS, LOSSES, LABELS, TENSOR, WEIGHT, RECEIVED = (
    *("inputs", "training losses", "training labels", "training tensor ", "weights "),
    "received",
)
_MOST_AXES, _MOST_VALUES = 8, 1 << 48
_TRAINING = "training"


class _Damaged(Exception):  # noqa: N818  (it becomes an error that names the file)
    """What a file says does not fit together."""


# Writing


def write_run(path: str | os.PathLike[str], run: Run) -> None:
    """Writes a run to a .safetensors file; the file that was there stays until it is complete.

    Raises ArgumentError for another suffix, MissingFileError for a folder that does not exist,
    FileError where the system refuses.
    """
    target = check_suffix(path)
    arrays = _list_arrays(run)
    text = json.dumps({labels.RECORDING: in_english(_to_plain(run))}, allow_nan=False)
    safetensors.write(target, make_label(text, arrays), arrays)


def check_suffix(path: str | os.PathLike[str]) -> Path:
    """The path. Raises ArgumentError for one that is not called as a recording is."""
    found = Path(path)
    if found.suffix != ".safetensors":
        raise ArgumentError(f"{found}: a recording is a .safetensors file; name it so")
    return found


def _list_arrays(run: Run) -> dict[str, np.ndarray]:
    arrays = {INPUTS: run.inputs}
    arrays |= {name: _array_of(held) for name, held in list_held(run).items()}
    for mode, recording in run.modes.items():
        if _name_received(run, recording) == "another":
            arrays[f"{mode} {RECEIVED}"] = np.asarray(recording.received)
    if run.training is not None:
        arrays |= {LOSSES: run.training.losses, LABELS: run.training.labels.astype(np.int64)}
        for name, held in run.training.tensors.items():
            arrays[f"{TENSOR}{name}"] = _array_of(held)
    arrays |= {f"{WEIGHT}{name}": array for name, array in (run.arrays or {}).items()}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _name_received(run: Run, recording: SampledRecording) -> str:
    """What the first stage was given: the inputs, something else, or that is not known."""
    if recording.received is None:
        return "unknown"
    return INPUTS if np.array_equal(recording.received, run.inputs) else "another"


def _array_of(held: RecordedTensor) -> np.ndarray:
    return held.held if isinstance(held, Sample) else held


def _to_plain(run: Run) -> dict[str, Any]:
    stages = {
        name: {"shape": list(held.shape), "hash": run.hashes[name]}
        for name, held in list_held(run).items()
    }
    training = None
    if run.training is not None:
        training = {
            "recipe": run.training.recipe.to_dict(),
            "shapes": {name: list(held.shape) for name, held in run.training.tensors.items()},
            "apart": {name: _list_numbers(each) for name, each in run.training.apart.items()},
            "limits": {name: _list_numbers(each) for name, each in run.training.limits.items()},
        }
    return {
        "version": RECORDING_VERSION,
        "config": json.loads(run.config.to_json()),
        "dtype": run.dtype,
        "seed": run.seed,
        "drawn": run.drawn,
        "weights": dict(run.prints),
        "environment": dict(run.environment),
        "notes": list(run.notes),
        "modes": {
            mode: {"notes": list(each.notes), RECEIVED: _name_received(run, each)}
            for mode, each in run.modes.items()
        },
        "stages": stages,
        "title": run.trace.title,
        "rows": [_plain_row(row) for row in run.trace.rows],
        "findings": [_plain_finding(each) for each in run.trace.findings],
        "trace notes": list(run.trace.notes),
        _TRAINING: training,
    }


_ROW = ("quantity", "tensor", "actual", "expected", "absolute", "relative", "index", "axes",
        "tolerance")  # fmt: skip
_DIGITS = 6  # of differences and limits


def _plain_row(row: Difference) -> list[Any]:
    return [_plain_value(getattr(row, name)) for name in _ROW]


def _plain_value(value: Any) -> Any:
    """Numbers with few digits; infinities, which JSON does not have, as texts."""
    if isinstance(value, tuple):
        return [_plain_value(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else str(value)
    return value


def _list_numbers(numbers: tuple[float, ...]) -> list[Any]:
    return [_plain_value(float(number)) for number in numbers]


def _plain_finding(finding: Finding) -> dict[str, Any]:
    plain = {each.name: getattr(finding, each.name) for each in fields(finding)}
    del plain["explanations"], plain["searched"]
    return {**plain, "difference": _plain_row(finding.difference), "agrees": finding.agrees}


# Reading


def read_run(path: str | os.PathLike[str]) -> Run:
    """The run in a file.

    Raises MissingFileError, FileError, ArgumentError for a file that holds none or that a newer
    version wrote, WeightsError for one that is damaged.
    """
    source = existing(path)
    if source.suffix != ".safetensors":
        raise ArgumentError(f"{source.name}: is no recording, which is a .safetensors file")
    header = safetensors.read(source)
    check_label(header.label, source.name)
    said = _said(header.label.get(labels.CONFIG, ""), source.name)
    arrays = read_arrays(header.arrays)
    check_arrays(header.label, arrays, source.name)
    try:
        return _Reader(said, dict(arrays)).run()
    except (_Damaged, ArgumentError, WeightsError) as error:
        raise WeightsError(f"{source.name}: is damaged: {error}", []) from None


def _said(text: str, source: str) -> Mapping[str, Any]:
    """What a file says of its run. Raises ArgumentError for one that holds none."""
    values = parse_json(text, f"the metadata of {source}", MOST_HEADER) if text else {}
    said = values.get(labels.RECORDING) if isinstance(values, dict) else None
    if not isinstance(said, dict):
        raise ArgumentError(
            f"{source}: holds no recording; make one of a model or of weights with: resattn record"
        )
    number = said.get("version")
    if not is_integer(number) or number < 1:
        raise WeightsError(
            f"{source}: is damaged: version: expected 1 or more, got {quote(number, 20)}", []
        )
    if number > RECORDING_VERSION:
        raise ArgumentError(
            f"{source}: is a recording of version {quote(number, 20)}, and this resattn reads "
            f"version {RECORDING_VERSION}; compare it with a newer resattn"
        )
    return said


class _Reader:
    """Takes a run apart. Raises _Damaged, and what configs and recipes raise."""

    def __init__(self, said: Mapping[str, Any], arrays: dict[str, np.ndarray]):
        self.said, self.arrays = said, arrays

    def run(self) -> Run:
        text = json.dumps(self._get("config", dict))
        config, prints = config_from_json(text, "its config"), self._texts("weights")
        names = {parameter.name for parameter in schema(config)}
        if set(prints) != names:
            raise _Damaged("its hashes are not those of the weights of its config")
        inputs, dtype = self._take(INPUTS), self._get("dtype", str)
        if dtype not in ("float32", "float64") or inputs.dtype.name != dtype or inputs.ndim != 4:
            raise _Damaged(f"its inputs are {inputs.shape}, {inputs.dtype}, not images in {dtype}")
        modes, hashes = self._modes(inputs)
        for mode, recording in modes.items():
            given = inputs if recording.received is None else recording.received
            if given.shape[1] != config.in_channels:
                raise _Damaged(f"{mode}: {given.shape[1]} channels do not fit its config")
        trace = self._trace()
        _check_rows(trace, hashes)
        made = Run(
            config=config,
            dtype=dtype,
            seed=self._seed(),
            inputs=inputs,
            drawn=self._get("drawn", str),
            prints=prints,
            environment=self._texts("environment"),
            modes=modes,
            trace=trace,
            hashes=hashes,
            training=self._training(names),
            arrays=self._weights(prints, config),
            notes=self._notes(self.said, "notes"),
        )
        if self.arrays:
            raise _Damaged(f"nothing is said of the arrays {list_names(self.arrays)}")
        return made

    def _get(self, name: str, kind: type) -> Any:
        return _take_field(self.said, name, kind)

    def _seed(self) -> int:
        seed = self._get("seed", int)
        if seed < 0:
            raise _Damaged(f"seed: expected 0 or more, got {quote(seed, 60)}")
        return int(seed)

    def _texts(self, name: str) -> dict[str, str]:
        held = self._get(name, dict)
        return {key: _take_field(held, key, str) for key in held}

    def _notes(self, held: Mapping[str, Any], name: str) -> tuple[str, ...]:
        notes = _take_field(held, name, list)
        return tuple(_check_kind(name, note, str) for note in notes)

    def _take(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise _Damaged(f"the array {name!r} is missing")
        return self.arrays.pop(name)

    def _modes(self, inputs: np.ndarray) -> tuple[dict[str, SampledRecording], dict[str, str]]:
        said = self._get("modes", dict)
        if not said or not set(said) <= set(MODES):
            raise _Damaged(f"its modes are {quote(list(said))}")
        held, hashes = self._stages(len(inputs))
        modes = {}
        for mode in said:
            values, slopes, statistics = (
                {each[2]: held[each] for each in held if each[:2] == (mode, way)}
                for way in ("forward", "backward", "statistics")
            )
            values = {IMAGE: inputs, **values}
            own = _take_field(said, mode, dict)
            modes[mode] = SampledRecording(
                _select_whole(values),
                _select_whole(slopes),
                _select_whole(statistics),
                self._received(_take_field(own, RECEIVED, str), mode, inputs),
                self._notes(own, "notes"),
                _select_samples(values),
                _select_samples(slopes),
                tuple(dict.fromkeys((*values, *slopes))),
            )
        return modes, hashes

    def _received(self, said: str, mode: str, inputs: np.ndarray) -> np.ndarray | None:
        if said == "unknown":
            return None
        found = inputs if said == INPUTS else self._take(f"{mode} {RECEIVED}")
        if found.ndim != 4 or len(found) != len(inputs) or not found.size:
            raise _Damaged(f"the input of its first stage is {found.shape}, not images")
        return found

    def _stages(
        self, batch: int
    ) -> tuple[dict[tuple[str, str, str], RecordedTensor], dict[str, str]]:
        held: dict[tuple[str, str, str], RecordedTensor] = {}
        hashes = {}
        for name, each in self._get("stages", dict).items():
            mode, _, rest = name.partition(" ")
            way, _, stage = rest.partition(" ")
            if mode not in self.said["modes"] or way not in RECORDED:
                raise _Damaged(f"there is no stage {quote(name, 60)}")
            shape = _read_shape(each, name)
            if way != "statistics" and shape[:1] != (batch,):
                raise _Damaged(f"{name}: is not of {batch} images")
            held[mode, way, stage] = self._held(name, shape, stage)
            hashes[name] = _take_field(each, "hash", str)
        return held, hashes

    def _held(self, name: str, shape: tuple[int, ...], seed: str) -> RecordedTensor:
        """A stage or a parameter, whole or a sample. seed: its name, for the positions."""
        array = self._take(name)
        if array.dtype.name not in ("float32", "float64"):
            raise _Damaged(f"{name}: is {array.dtype}")
        if array.shape == shape:
            return array
        if len(shape) > 1:
            positions = draw_positions(shape, seed)
            if array.shape == (shape[0], len(STATISTICS) + len(positions)):
                return Sample(shape, positions, array)
        raise _Damaged(f"{name}: expected {shape} or a sample of it, got {array.shape}")

    def _trace(self) -> Trace:
        rows = tuple(_read_row(each) for each in self._get("rows", list))
        findings = tuple(_read_finding(each) for each in self._get("findings", list))
        if not {finding.mode for finding in findings} <= set(self.said["modes"]):
            raise _Damaged("a finding is of a mode that was not recorded")
        notes = self._notes(self.said, "trace notes")
        return Trace(self._get("title", str), rows, findings, notes=notes)

    def _training(self, names: set[str]) -> TrainingSteps | None:
        if self.said.get(_TRAINING) is None:
            return None
        said = self._get(_TRAINING, dict)
        losses, given, shapes = (
            self._take(LOSSES), self._take(LABELS), _take_field(said, "shapes", dict),
        )  # fmt: skip
        if losses.ndim != 1 or losses.dtype != np.float64 or given.dtype != np.int64:
            raise _Damaged("its losses or labels are of another shape or dtype")
        if set(shapes) != names:
            raise _Damaged("its training is not of the weights of its config")
        tensors: dict[str, RecordedTensor] = {}
        for name in shapes:
            shape = _read_shape({"shape": shapes[name]}, name)
            if shape[:1] != losses.shape:
                raise _Damaged(f"{name}: is not of {len(losses)} steps")
            tensors[name] = self._held(f"{TENSOR}{name}", shape, name)
        apart, limits = (
            {
                name: _read_numbers(_take_field(said, kind, dict), name, len(losses))
                for name in (LOSS, *shapes)
            }
            for kind in ("apart", "limits")
        )
        recipe = Recipe.from_dict(_take_field(said, "recipe", dict))
        return TrainingSteps(recipe, given, losses, tensors, apart, limits)

    def _weights(self, prints: Mapping[str, str], config: Any) -> dict[str, np.ndarray] | None:
        if not any(name.startswith(WEIGHT) for name in self.arrays):
            return None
        found = {name: self._take(f"{WEIGHT}{name}") for name in prints}
        check(schema(config), found)
        for name, array in found.items():
            if fingerprint(array) != prints[name]:
                raise _Damaged(f"the weights {name} are not those of its hash")
        return found


def _select_whole(held: Mapping[str, RecordedTensor]) -> dict[str, np.ndarray]:
    return {name: each for name, each in held.items() if not isinstance(each, Sample)}


def _select_samples(held: Mapping[str, RecordedTensor]) -> dict[str, Sample]:
    return {name: each for name, each in held.items() if isinstance(each, Sample)}


def _check_kind(name: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _Damaged(f"{name}: expected {kind.__name__}, got {quote(value, 60)}")
    return value


def _take_field(held: Any, name: str, kind: type) -> Any:
    if not isinstance(held, Mapping) or name not in held:
        raise _Damaged(f"{quote(name, 60)} is missing")
    return _check_kind(name, held[name], kind)


def _read_shape(said: Any, name: str) -> tuple[int, ...]:
    shape = tuple(_check_kind(name, side, int) for side in _take_field(said, "shape", list))
    if len(shape) > _MOST_AXES or min(shape, default=1) < 1 or math.prod(shape) > _MOST_VALUES:
        raise _Damaged(f"{name}: no stage has the shape {quote(shape, 60)}")
    return shape


def _read_number(name: str, value: Any) -> float:
    if value in ("inf", "-inf", "nan"):
        return float(value)
    number = _check_kind(name, value, int if isinstance(value, int) else float)
    if isinstance(number, int) and abs(number) > _MOST_VALUES:
        raise _Damaged(f"{name}: expected a number of at most {_MOST_VALUES}, got {quote(number)}")
    return float(number)


def _read_numbers(held: Any, name: str, count: int) -> tuple[float, ...]:
    found = tuple(_read_number(name, each) for each in _take_field(held, name, list))
    if len(found) != count:
        raise _Damaged(f"{name}: expected {count} numbers, got {len(found)}")
    return found


def _read_row(said: Any) -> Difference:
    held = dict(zip(_ROW, _check_kind("a row", said, list), strict=False))
    texts = {name: _take_field(held, name, str) for name in (*_ROW[:4], "axes")}
    numbers: dict[str, Any] = {
        name: _read_number(name, held.get(name)) for name in ("absolute", "relative", "tolerance")
    }
    index = tuple(_check_kind("index", each, int) for each in _take_field(held, "index", list))
    if texts["quantity"].split()[:1] not in [[mode] for mode in MODES]:
        raise _Damaged(f"a row is of {quote(texts['quantity'], 60)}")
    return Difference(index=index, **texts, **numbers)


def _check_rows(trace: Trace, stages: Iterable[str]) -> None:
    """Raises _Damaged where the rows are not those of the stages, or are not what was found.

    Only forward may a stage be over its tolerance that no finding explains: rounding errors that
    come from the stages before it. stages: their names, "mode way stage".
    """
    rows = {f"{row.quantity} {row.tensor}" for row in trace.rows}
    judged = [name for name in stages if not name.startswith("eval statistics ")]
    missing = [name for name in judged if name not in rows]
    if missing:
        raise _Damaged(f"no row says how far from the oracle it is: {list_names(missing)}")
    modes = {finding.mode for finding in trace.findings}
    for row in trace.rows:
        mode, _, way = row.quantity.partition(" ")
        if way == "backward" and mode not in modes and not row.ok:
            raise _Damaged(
                f"{row.quantity} {row.tensor} is over its tolerance, and no finding says so"
            )


def _read_finding(said: Any) -> Finding:
    agrees = said.get("agrees") if isinstance(said, Mapping) else None
    if agrees is not None:
        pair = _check_kind("agrees", agrees, list)
        if len(pair) != 2:
            raise _Damaged("agrees: expected a stage and a number")
        agrees = (_check_kind("agrees", pair[0], str), _read_number("agrees", pair[1]))
    mode = _take_field(said, "mode", str)
    if mode not in MODES:
        raise _Damaged(f"a finding is of the mode {quote(mode, 60)}")
    return Finding(
        model=_take_field(said, "model", str),
        mode=mode,
        stage=_take_field(said, "stage", str),
        agrees=agrees,
        difference=_read_row(_take_field(said, "difference", list)),
        where=_take_field(said, "where", str),
        bound=_take_field(said, "bound", str),
        backward=_take_field(said, "backward", bool),
        searched=False,
    )
