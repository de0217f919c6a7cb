"""Files of recordings: damaged, made up by somebody, and on the command line."""

# ruff: noqa: E402  (PyTorch first: it must be loaded before TensorFlow)

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from resattn import compare, record
from resattn.checking.draws import random_arrays
from resattn.cli.app import app
from resattn.recording.file import RECORDING_VERSION, read_run, write_run
from resattn.recording.run import list_held
from shared_tests.files_cases import SMALL
from shared_tests.recording_cases import (
    RECORDED_BLOCK,
    draw_recorded,
    record_ours,
    rewrite_arrays,
    rewrite_said,
)
from weights import read, write
from weights.errors import ArgumentError, MissingFileError, ResattnError, WeightsError
from weights.live import build


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The smallest run, in a file, and the bytes of it."""
    run = record_ours("torch", SMALL, steps=1, inputs=np.ones((1, 1, 3, 2), "float32") / 3)
    path = tmp_path_factory.mktemp("recording") / "small.safetensors"
    write_run(path, run)
    return path, path.read_bytes(), run


@pytest.fixture
def block(tmp_path):
    """A run with samples, in a file."""
    write_run(tmp_path / "block.safetensors", record_ours("torch", steps=2))
    return tmp_path / "block.safetensors"


def outcome(path):
    """The run in a file. None if it is refused, with an error that can be shown."""
    try:
        return read_run(path)
    except ResattnError as error:
        message = str(error)
    lines = message.splitlines()
    assert path.name in lines[0], lines
    assert all(line.isprintable() for line in lines), lines
    assert len(message) < 10_000
    return None


def same(one, other):
    """Whether two runs say the same."""
    held, theirs = list_held(one), list_held(other)
    return (
        one.config == other.config
        and list(held) == list(theirs)
        and all(
            np.array_equal(getattr(each, "held", each), getattr(theirs[name], "held", theirs[name]))
            for name, each in held.items()
        )
        and np.array_equal(one.inputs, other.inputs)
        and np.array_equal(one.training.losses, other.training.losses)
        and dict(one.environment) == dict(other.environment)
        and one.hashes == other.hashes
    )


def test_there_and_back(small, block):
    path, _, run = small
    assert same(read_run(path), run)
    run = record_ours("torch", steps=2)
    found = read_run(block)
    assert same(found, run)
    assert found.training.recipe == run.training.recipe
    assert [row.tensor for row in found.trace.rows] == [row.tensor for row in run.trace.rows]
    assert [f"{row.relative:.3g}" for row in found.trace.rows] == [
        f"{row.relative:.3g}" for row in run.trace.rows
    ]
    assert compare(found, run).ok


def test_cut_off(small):
    """At many bytes of the header and of the arrays, and at all where they meet."""
    path, whole, _ = small
    header = 8 + int.from_bytes(whole[:8], "little")
    places = {
        *range(0, header, 11),
        *range(header - 20, header + 20),
        *range(header, len(whole), 5),
    }
    for length in sorted(places):
        path.write_bytes(whole[:length])
        assert outcome(path) is None, f"the first {length} bytes of {len(whole)} were accepted"
    path.write_bytes(whole)
    assert outcome(path) is not None


def test_a_bit_of_many_bytes(small):
    path, whole, run = small
    unread = 0
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        found = outcome(path)
        if found is not None:
            unread += 1
            assert same(found, run), place
    assert unread < len(whole) / 100
    path.write_bytes(whole)


def drop(name):
    return lambda said: said.pop(name)


def put(name, value):
    def change(said):
        *path, last = name.split("/")
        for part in path:
            said = said[int(part) if isinstance(said, list) else part]
        said[int(last) if isinstance(said, list) else last] = value

    return change


def drop_row(quantity, tensor):
    return lambda said: said["rows"].remove(find_row(said, quantity, tensor))


def put_row(quantity, tensor, relative):
    return lambda said: find_row(said, quantity, tensor).__setitem__(5, relative)


def find_row(said, *names):
    return next(row for row in said["rows"] if tuple(row[:2]) == names)


HUGE = [1 << 40, 1 << 40, 1 << 40]
SAID = {
    "no config": (drop("config"), "'config' is missing"),
    "config of another kind": (put("config", []), "config: expected dict"),
    "config with a wrong field": (put("config/stride", -1), "stride"),
    "no rows": (drop("rows"), "'rows' is missing"),
    "rows that are none": (put("rows", [1]), "a row: expected list, got 1"),
    "row of no mode": (put("rows/0/0", "x forward"), "a row is of 'x forward'"),
    "row without a number": (put("rows/0/4", "1"), "absolute: expected float, got '1'"),
    "stage without a row": (
        drop_row("eval forward", "conv1"), "no row says how far from the oracle it is: 'eval f",
    ),
    "gradient over its tolerance": (
        put_row("eval backward", "conv1", 1.0), "eval backward conv1 is over its tolerance, and no",
    ),
    "row with a huge number": (
        put("rows/0/4", 10**400), "absolute: expected a number of at most 281474976710656, got an",
    ),
    "findings that are none": (put("findings", [3]), "'mode' is missing"),
    "modes": (put("modes", {"x": {}}), "its modes are ['x']"),
    "no modes": (put("modes", {}), "its modes are []"),
    "notes": (put("notes", [1]), "notes: expected str"),
    "environment": (put("environment", {"a": 1}), "a: expected str"),
    "dtype": (put("dtype", "float16"), "not images in float16"),
    "seed": (put("seed", True), "seed: expected int, got True"),
    "negative seed": (put("seed", -1), "seed: expected 0 or more, got -1"),
    "finding of no mode": (put("findings", [{"agrees": None, "mode": "x"}]), "of the mode 'x'"),
    "channels": (put("config/in_channels", 5), "4 channels do not fit its config"),
    "hashes of other weights": (put("weights", {"a": "b"}), "not those of the weights of its con"),
    "huge stage": (put("stages/eval forward conv1/shape", [3, *HUGE]), "no stage has the shape"),
    "stage of no images": (put("stages/eval forward conv1/shape", [7, 4, 13, 11]), "is not of 3"),
    "stage of another shape": (put("stages/eval forward conv1/shape", [3, 9, 1, 1]), "or a sample"),
    "stage with a negative side": (
        put("stages/eval forward conv1/shape", [3, -4, -13, 11]), "no stage has the shape",
    ),
    "stage of no mode": (put("stages/x forward a", {}), "there is no stage 'x forward a'"),
    "stage without array": (
        put("stages/eval forward a", {"shape": [3], "hash": ""}), "'eval forward a' is missing",
    ),
    "first input": (put("modes/eval/received", "another"), "'eval received' is missing"),
    "training of others": (put("training/shapes", {}), "not of the weights of its config"),
    "training with few numbers": (put("training/apart/loss", [1.0]), "expected 2 numbers, got 1"),
    "recipe": (put("training/recipe", {"optimizer": {"name": "Lion"}}), "optimizer"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_a_file_says_is_checked(block, name):
    change, words = SAID[name]
    rewrite_said(block, change)
    with pytest.raises(WeightsError, match=r"block\.safetensors: is damaged: ") as error:
        read_run(block)
    assert words in str(error.value)


def change_first(how):
    def change(arrays):
        arrays["eval forward conv1"] = how(arrays["eval forward conv1"])

    return change


ARRAYS = {
    "one more": (lambda a: a.update(x=np.ones(2, "float32")), "nothing is said of the arrays 'x'"),
    "one missing": (lambda a: a.pop("eval forward conv1"), "'eval forward conv1' is missing"),
    "no inputs": (lambda a: a.pop("inputs"), "the array 'inputs' is missing"),
    "integers": (change_first(lambda a: a.astype("int32")), "eval forward conv1: is int32"),
    "shorter": (change_first(lambda a: a[:, :-1].copy()), "expected (3, 4, 13, 11) or a sample"),
    "losses": (lambda a: a.update({"training losses": np.ones(3)}), "is not of 3 steps"),
    "labels": (
        lambda a: a.update({"training labels": np.ones(3, "float32")}), "losses or labels are",
    ),
    "weights": (
        lambda a: a.update({f"weights {n}": w for n, w in random_arrays(RECORDED_BLOCK, seed=9)
                            .items()}), "are not those of its hash",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ARRAYS)
def test_the_arrays_of_a_file_are_checked(block, name):
    change, words = ARRAYS[name]
    rewrite_arrays(block, change)
    with pytest.raises(WeightsError, match=r"block\.safetensors: is damaged: ") as error:
        read_run(block)
    assert words in str(error.value)


# What a file says of itself is not what decides


@pytest.fixture
def liar(tmp_path, block):
    """A run with another eps whose findings were taken out, with checksums that fit."""
    right = random_arrays(RECORDED_BLOCK)
    model = build(replace(RECORDED_BLOCK, bn_eps=1e-1), right, "torch")
    path = tmp_path / "liar.safetensors"
    record(model, draw_recorded(RECORDED_BLOCK), config=RECORDED_BLOCK, arrays=right, steps=0,
           to=path)  # fmt: skip
    true = read_run(path)
    assert true.trace.findings

    def lie(said):
        said["findings"] = []
        for row in said["rows"]:
            if "backward" in row[0]:
                row[5] = 0.0

    rewrite_said(path, lie)
    return path, true


def silence(said):
    for row in said["rows"]:
        row[5] = 0.0


def test_with_the_weights_the_values_decide(block, liar):
    path, true = liar
    found = compare(block, path, arrays=random_arrays(RECORDED_BLOCK))
    assert not found.ok
    assert found.doubts == ()
    assert found.trace.first.stage == true.trace.first.stage == "bn1"
    assert {each.mode for each in found.trace.findings} == {"eval", "train"}
    assert {each.model for each in found.trace.findings} == {"liar"}
    assert "batch norm eps: eps 0.1 instead of 1e-05" in str(found)
    rewrite_said(path, silence)
    found = compare(block, path, arrays=random_arrays(RECORDED_BLOCK))
    assert not found.ok
    assert max(row.relative for row in found.trace.rows if row.actual == "liar") > 1e-3


def test_without_the_weights_runs_must_agree(block, liar):
    path, _ = liar
    found = compare(block, path)
    assert not found.ok
    assert found.lines()[-1] == (
        "FAILED: the runs do not fit what they say of themselves.", "bad",
    )  # fmt: skip
    rows, pair = found.doubts
    assert rows.startswith("liar: "), rows
    assert "and the run names no stage that is wrong; to judge it, give the file of" in rows
    assert pair.startswith("block and liar: "), pair
    assert "and neither names a stage that is wrong; to judge them" in pair
    rewrite_said(path, silence)
    assert compare(block, path).doubts == (pair,)
    assert run("compare", block, path).exit_code == 1
    rewrite_said(path, lambda said: [row.__setitem__(8, "inf") for row in said["rows"]])
    assert not compare(block, path).ok  # the smaller tolerance counts


def test_other_files(tmp_path, block):
    write(tmp_path / "w.safetensors", RECORDED_BLOCK, random_arrays(RECORDED_BLOCK))
    with pytest.raises(ArgumentError, match=r"w\.safetensors: holds no recording; make one"):
        read_run(tmp_path / "w.safetensors")
    with pytest.raises(MissingFileError, match="there is no such file"):
        read_run(tmp_path / "x.safetensors")
    (tmp_path / "x.npz").write_bytes(b"")
    with pytest.raises(ArgumentError, match=r"x\.npz: is no recording, which is a \.safetensors"):
        read_run(tmp_path / "x.npz")
    rewrite_said(block, put("version", RECORDING_VERSION + 1))
    with pytest.raises(ArgumentError, match="is a recording of version 2, and this resattn reads"):
        read_run(block)
    for version in (-4, 0, True, "1", None):
        rewrite_said(block, put("version", version))
        with pytest.raises(WeightsError, match="is damaged: version: expected 1 or more, got"):
            read_run(block)


def test_texts_of_a_file_do_not_move_the_cursor(block):
    def change(said):
        said["drawn"] = "\x1b[31mred"
        said["environment"]["device"] = "\x1b]0;title\x07"
        said["notes"] = ["one\nThe same: all", "\u202eturned"]

    rewrite_said(block, change)
    for every in (False, True):
        lines = [line for line, _ in compare(block, block).lines(every)]
        assert all(line.isprintable() for line in lines)
    assert r"block 1: one\nThe same: all" in str(compare(block, block))
    assert r"\x1b[31mred" in "".join(lines)


def test_a_recording_is_no_weights_file(block, tmp_path):
    words = "block.safetensors: is a recording of what a model computed, and expected is a file of"
    with pytest.raises(ArgumentError, match="another recording: resattn compare"):
        read(block)
    for command in ("check", "inspect", "explain"):
        fails(words, command, block)
    fails(words, "port", block, tmp_path / "ported.safetensors")
    assert not (tmp_path / "ported.safetensors").exists()


def test_a_file_that_cannot_be_written_leaves_the_old_one(block, monkeypatch):
    before = block.read_bytes()

    def fail(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("weights.files.safetensors.write_shard", fail)
    with pytest.raises(KeyboardInterrupt):
        write_run(block, read_run(block))
    assert block.read_bytes() == before
    assert [path.name for path in block.parent.iterdir()] == [block.name]


def test_the_same_run_makes_the_same_bytes(block, tmp_path):
    write_run(tmp_path / "again.safetensors", read_run(block))
    assert (tmp_path / "again.safetensors").read_bytes() == block.read_bytes()


# The command line


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def weights(tmp_path):
    write(tmp_path / "w.safetensors", RECORDED_BLOCK, random_arrays(RECORDED_BLOCK))
    return tmp_path / "w.safetensors"


def test_record_and_compare(weights, tmp_path, all_frameworks):
    np.save(tmp_path / "x.npy", draw_recorded(RECORDED_BLOCK))
    files = []
    for framework in all_frameworks:
        files.append(tmp_path / f"{framework}.safetensors")
        done = run("record", weights, "--framework", framework, "--inputs", tmp_path / "x.npy",
                   "--to", files[-1], "--steps", 2, "--recipe", "adam")  # fmt: skip
        assert done.exit_code == 0, done.output
        assert "2 steps of training" in done.output
        assert "random" not in done.output
    done = run("compare", *files, files[0], "--json", tmp_path / "found.json")
    assert done.exit_code == 0, done.output
    assert "what differs between the environments:" in done.output
    assert "The same: " in done.output
    values = json.loads((tmp_path / "found.json").read_text())
    assert values["ok"]
    assert len(values["names"]) == len(all_frameworks) + 1
    assert values["trace"]["rows"]


def test_random_weights_and_images_are_said(tmp_path):
    done = run("record", "--config", RECORDED_BLOCK.to_json(), "--framework", "torch", "--steps", 0,
               "--to", tmp_path / "a.safetensors", "--seed", 3)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "no FILE: the weights are random, seed 3" in done.output
    assert "no --inputs: the images are random, seed 3" in done.output
    assert read_run(tmp_path / "a.safetensors").drawn == "random, seed 3"


def test_a_difference_ends_with_1_and_says_why(weights, tmp_path):
    arrays = random_arrays(RECORDED_BLOCK)
    wrong = {**arrays, "conv1.bias": np.zeros_like(arrays["conv1.bias"])}
    write_run(tmp_path / "a.safetensors", record_ours("torch", steps=0))
    write_run(tmp_path / "b.safetensors", record_ours("torch", held=wrong, steps=0))
    files = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    done = run("compare", *files)
    assert done.exit_code == 1
    assert "diverges at conv1" in done.output
    done = run("compare", *files, "--weights", weights, "--all", "--html", tmp_path / "a.html")
    assert done.exit_code == 1
    page = (tmp_path / "a.html").read_text()
    assert "✗ Not the same function" in page
    assert "<b>missing bias</b>" in page
    assert "Nothing was compared" not in page
    again = run("compare", files[0], files[0], "--html", tmp_path / "a.html", "--force")
    assert again.exit_code == 0
    page = (tmp_path / "a.html").read_text()
    assert "✓ The same function" in page
    assert "a 1, a 2: " in page
    assert "missing bias: " in done.output
    assert "more (--all shows them)" not in done.output
    assert "the environments:" in done.output


def fails(words, *arguments):
    done = run(*arguments)
    assert isinstance(done.exception, ResattnError), (done.output, done.exception)
    assert words in str(done.exception)


def test_errors_on_the_command_line(weights, tmp_path):
    to = ("--to", tmp_path / "a.safetensors")
    fails("a recording is a .safetensors file", "record", weights, "--framework", "torch", "--to",
          tmp_path / "a.npz")  # fmt: skip
    fails("framework: expected one of", "record", weights, "--framework", "caffe", *to)
    fails("--dtype: expected float32 or float64, got 'int8'", "record", weights, "--framework",
          "torch", "--dtype", "int8", *to)  # fmt: skip
    fails("device 'cuda:9'", "record", weights, "--framework", "torch", "--device", "cuda:9", *to)
    fails("there is no such file", "compare", tmp_path / "x.safetensors", tmp_path / "y")
    write_run(to[1], record_ours("torch", SMALL, steps=0, inputs=np.ones((1, 1, 3, 2), "float32")))
    fails("exists already; pass --force", "record", weights, "--framework", "torch", *to)
    fails("expected two or more recordings, got 1", "compare", to[1])
    fails("are about the file in --weights; name it", "compare", to[1], to[1], "--as", "resnet18")
    done = run("record", weights, "--framework", "torch", "--steps", 0, "--force", *to)
    assert done.exit_code == 0, done.output
    assert read_run(to[1]).config == RECORDED_BLOCK


def test_the_real_checkpoint(checkpoint, tmp_path, framework):
    """A trained ResNet-20: small variances, shortcuts without weights."""
    files = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]
    for file, name in zip(files, (framework, "torch"), strict=True):
        done = run("record", checkpoint, "--framework", name, "--to", file)
        assert done.exit_code == 0, done.output
    done = run("compare", *files, "--weights", checkpoint)
    assert done.exit_code == 0, done.output
    size = sum(array.nbytes for array in read(checkpoint)[1].values())
    assert Path(files[0]).stat().st_size < 0.4 * size
