"""`resattn inspect` opens any file: what it shows of files that hold no network of ours."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from resattn.checking.draws import random_arrays
from resattn.cli.app import app
from resattn.cli.listing import draw_histogram, find_doubts
from weights import BlockConfig, preset, write
from weights.errors import ArgumentError, FileError, MissingFileError, WeightsError
from weights.files.opening import open_content


def run(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


@pytest.fixture
def strange(tmp_path):
    path = tmp_path / "strange.safetensors"
    arrays = {
        "encoder.weight": np.linspace(-1, 3, 12, dtype=np.float32).reshape(3, 4),
        "encoder.steps": np.array(7),
        "encoder.empty": np.zeros((0, 4), np.float32),
    }
    arrays["encoder.weight"][1, 2] = np.nan
    save_file(arrays, path)
    return path


def test_a_file_that_is_not_known_is_listed(strange):
    result = run(strange)
    assert result.exit_code == 0, result.output
    assert "strange.safetensors: 3 arrays, 13 numbers, float32, int64" in result.output
    assert "not a network that we know" in result.output
    assert "encoder.weight  3 x 4     float32" in result.output
    assert "encoder.steps   a number  int64" in result.output


def test_its_values_are_measured(strange):
    output = run(strange, "--values").output
    row = next(line for line in output.splitlines() if line.startswith("  encoder.weight"))
    assert row.split()[5:7] == ["-1", "3"]
    assert "warning: encoder.weight holds 1 NaN value" in output
    assert "empty" in output


def test_with_a_config_the_error_stays(strange):
    assert isinstance(run(strange, "--config", "resnet18").exception, WeightsError)
    assert isinstance(run(strange, "--as", "resnet50").exception, (ArgumentError, WeightsError))


def test_what_cannot_be_read_stays_an_error(tmp_path):
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 nothing")
    assert isinstance(run(tmp_path / "broken.npz").exception, WeightsError)
    assert isinstance(run(tmp_path / "none.npz").exception, MissingFileError)
    (tmp_path / "notes.md").write_text("x")
    assert isinstance(run(tmp_path / "notes.md").exception, ArgumentError)


def test_the_command_that_ports_a_file(tmp_path):
    config = BlockConfig(4, 6)
    for name, target in (("b.npz", "b.safetensors"), ("my b.safetensors", "'my b.npz'")):
        write(tmp_path / name, config, random_arrays(config))
        output = run(tmp_path / name).output
        assert "port it: resattn port " in output
        line = next(line for line in output.splitlines() if line.startswith("port it"))
        assert line.endswith(f" {target}")


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([1.0, 1.0], "█"),
        (list(range(16)), "████████"),
        ([0.0] * 4 + [1.0], "█      ▂"),
    ],
)
def test_histogram(monkeypatch, values, bars):
    monkeypatch.setattr("sys.stdout", type("Out", (), {"encoding": "utf-8"}))
    assert draw_histogram(np.array(values)) == bars


def test_histogram_where_bars_cannot_be_printed(monkeypatch):
    monkeypatch.setattr("sys.stdout", type("Out", (), {"encoding": "cp1252"}))
    assert draw_histogram(np.array([0.0] * 4 + [1.0])) == "#      ."


def test_doubts():
    array = np.array([1, np.inf, -np.inf, np.nan], np.float32)
    assert find_doubts("a", "", array) == ["a holds 1 NaN and 2 infinite values"]
    assert find_doubts("v", "norm variance", np.array([-1.0])) == ["v holds negative variances"]
    assert find_doubts("n", "", np.array([3])) == []


def test_a_file_is_known_by_its_content(torch, tmp_path):
    """Trainers write PyTorch's format under other names."""
    config = BlockConfig(4, 6)
    arrays = random_arrays(config)
    for format_, name in (
        (".pt", "model_best.pth.tar"), (".pt", "last.ckpt"), (".safetensors", "weights"),
        (".npz", "a.zip"),
    ):  # fmt: skip
        write(tmp_path / f"a{format_}", config, arrays)
        (tmp_path / name).write_bytes((tmp_path / f"a{format_}").read_bytes())
        output = run(tmp_path / name).output
        assert output.startswith(f"{name}: a block, 4 to 6 channels"), output
    torch.save({"conv1.weight": torch.ones(2, 3)}, tmp_path / "old.model",
               _use_new_zipfile_serialization=False)  # fmt: skip
    assert "old.model: 1 array, 6 numbers, float32" in run(tmp_path / "old.model").output
    for content in (b"", b"PK\x03\x04", b"\x80\x04none", b"\x00" * 40):
        (tmp_path / "none.model").write_bytes(content)
        assert run(tmp_path / "none.model").exception is not None


def test_a_file_of_several_networks(tmp_path):
    small, large = preset("resnet20"), preset("resnet18", classes=7)
    arrays = {f"teacher.{name}": each for name, each in random_arrays(large).items()}
    arrays |= {f"student.{name}": each for name, each in random_arrays(small).items()}
    save_file(arrays, tmp_path / "pair.safetensors")
    output = run(tmp_path / "pair.safetensors").output
    assert "pair.safetensors: holds 2 networks; --part shows one of them:" in output
    # Ours hold no config here, so they are listed, not recognised; either way by its name.
    assert "\nteacher\n" in output
    assert "\nstudent\n" in output


def test_a_file_that_fits_several_networks(torch, tmp_path):
    """seresnet50 with another stride is another function under the same names and shapes."""
    config = preset("resnet50", classes=3)
    write(tmp_path / "a.pth", config, random_arrays(config), dialect="torchvision")
    output = run(tmp_path / "a.pth").output
    assert "not clear which network it is" in output
    assert (
        f"if it is resnet50, port it: resattn port {tmp_path / 'a.pth'} a.safetensors --as resnet50"
        in output
    )


def test_parts_of_one_file(torch, tmp_path):
    """Blocks, and a network without a prefix beside one that has one."""
    block = {
        name: torch.from_numpy(each) for name, each in random_arrays(BlockConfig(4, 6)).items()
    }
    torch.save({"model": block, "ema": block}, tmp_path / "two.ckpt")
    output = run(tmp_path / "two.ckpt").output
    assert "two.ckpt: holds 2 networks" in output
    assert "\nmodel\n" in output
    assert "not clear which network it is: " in output  # it holds no config
    config = preset("resnet20")
    write(tmp_path / "theirs.npz", config, random_arrays(config), dialect="cifar-resnet")
    arrays = dict(np.load(tmp_path / "theirs.npz"))
    beside = {f"teacher.{name}": each for name, each in arrays.items()}
    np.savez(tmp_path / "both.npz", **arrays, **beside)
    output = run(tmp_path / "both.npz").output
    assert "\n(no prefix)\n" in output
    assert output.count("port it: resattn port") == 2
    assert "a network of 9 blocks" in run(tmp_path / "both.npz", "--part", "").output


def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch):
    (tmp_path / "a.model").write_bytes(b"x")

    def fail(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", fail)
    with pytest.raises(FileError, match=r"a\.model: cannot be read \(Permission denied\)"):
        open_content(tmp_path / "a.model", None)
