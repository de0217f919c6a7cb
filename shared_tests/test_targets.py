"""Files that commands write: never over another one without --force, which they say at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from resattn.checking.draws import random_arrays
from resattn.cli import app as command_line
from resattn.cli.targets import check_targets
from weights import BlockConfig, write
from weights.errors import ArgumentError, FileError, MissingFileError

BLOCK = BlockConfig(3, 5)
# What is never reached: it would take a framework, or a long time.
COMMANDS = {
    "check": ["check", "FILE", "--json", "OUT.json"],
    "check page": ["check", "FILE", "--html", "OUT.html"],
    "check card": ["check", "FILE", "--card", "OUT.md"],
    "check reduce": ["check", "FILE", "--reduce", "OUT.py"],
    "compare": ["compare", "FILE", "FILE", "--json", "OUT.json"],
    "drift": ["drift", "--json", "OUT.json"],
    "drift picture": ["drift", "--to", "OUT.svg"],
    "drift page": ["drift", "--html", "OUT.html"],
    "explain": ["explain", "FILE", "--json", "OUT.json"],
    "bench": ["bench", "--quick", "--json", "OUT.json"],
    "bench picture": ["bench", "--quick", "--picture", "OUT.svg"],
    "draw": ["draw", "FILE", "--to", "OUT.svg"],
    "record": ["record", "FILE", "--framework", "torch", "--to", "OUT.safetensors"],
    "port": ["port", "FILE", "OUT.npz"],
}


@pytest.fixture
def file(tmp_path):
    write(tmp_path / "block.safetensors", BLOCK, random_arrays(BLOCK))
    return tmp_path / "block.safetensors"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_existing_file_is_kept(file, tmp_path, monkeypatch, name):
    """Before any model is computed: with a framework this would fail."""
    monkeypatch.setattr("weights.live.part", lambda *_: pytest.fail("a framework was asked for"))
    words = COMMANDS[name]
    target = tmp_path / next(word for word in words if word.startswith("OUT"))
    target.write_text("mine")
    arguments = [str(file) if word == "FILE" else word for word in words]
    arguments[arguments.index(target.name)] = str(target)
    result = CliRunner().invoke(command_line.app, arguments)
    assert isinstance(result.exception, ArgumentError), repr(result.exception)
    assert str(result.exception) == f"{target}: exists already; pass --force to replace it"
    assert target.read_text() == "mine"


def test_force_replaces(file, tmp_path):
    for words in (["explain", file, "--json", tmp_path / "a.json"],
                  ["draw", file, "--to", tmp_path / "a.svg"]):  # fmt: skip
        target = words[-1]
        target.write_text("mine")
        result = CliRunner().invoke(command_line.app, [*map(str, words), "--force"])
        assert result.exit_code == 0, result.exception
        assert target.read_text() != "mine"


def test_other_targets_that_cannot_be_written(tmp_path):
    with pytest.raises(FileError, match="it is a folder"):
        check_targets(True, tmp_path)
    with pytest.raises(MissingFileError, match=r"the folder .* does not exist"):
        check_targets(False, None, tmp_path / "none" / "a.json")
    with pytest.raises(ArgumentError, match=r"b\.json: is to be written twice"):
        check_targets(True, tmp_path / "b.json", tmp_path / "b.json")
    check_targets(False, None, tmp_path / "new.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["explain", "draw", "attention"])
def test_output_on_a_full_disk(command):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "resattn", command],
                              stdout=full, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert done.returncode == 2
    reason = "the output cannot be written (No space left on device)"
    assert done.stderr.strip() == f"resattn: {reason}"


def test_a_file_that_is_read_is_not_written(file):
    """Not even with --force: a report would take the place of the weights."""
    before = file.read_bytes()
    for words in (["explain", file, "--json", file], ["check", file, "--html", file],
                  ["record", file, "--framework", "torch", "--to", file],
                  ["compare", file, file, "--json", file]):  # fmt: skip
        result = CliRunner().invoke(command_line.app, [*map(str, words), "--force"])
        assert isinstance(result.exception, ArgumentError)
        assert "is read by this command; name another file to write" in str(result.exception)
    onto_itself = ["port", str(file), str(file), "--force"]
    assert CliRunner().invoke(command_line.app, onto_itself).exit_code == 0
    assert file.read_bytes() == before


def test_a_checkpoint_that_is_a_folder_is_replaced(jax, file, tmp_path):
    words = ["port", str(file), str(tmp_path / "a.orbax")]
    assert CliRunner().invoke(command_line.app, words).exit_code == 0
    again = CliRunner().invoke(command_line.app, words)
    assert "exists already; pass --force" in str(again.exception)
    assert CliRunner().invoke(command_line.app, [*words, "--force"]).exit_code == 0
