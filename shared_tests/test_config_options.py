"""Configs on the command line without JSON, and messages in the words of the command line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from resattn.checking.backends import backends
from resattn.checking.crosscheck import crosscheck
from resattn.checking.draws import random_arrays
from resattn.cli.app import COMMANDS, app
from resattn.cli.config_options import describe_config, with_config_options
from weights import BlockConfig, NetworkConfig, preset
from weights.config_json import config_from_json
from weights.errors import ArgumentError
from weights.frameworks import framework_key
from weights.live import build_live


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"block": "64,128"}, BlockConfig(64, 128)),
        ({"block": " 4, 6", "stride": 2, "attention": "eca"},
         BlockConfig(4, 6, stride=2, attention="eca")),
        ({"config": "resnet18", "classes": 10}, preset("resnet18", classes=10)),
        ({"config": "se-resnet20", "attention": "cbam"}, preset("se-resnet20", attention="cbam")),
        ({"config": '{"in_channels": 3, "out_channels": 4}', "attention": "none"},
         BlockConfig(3, 4, attention="none")),
    ],
)  # fmt: skip
def test_options_make_a_config(options, config):
    assert config_from_json(describe_config(**{"config": None, **options})) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": "resnet18", "block": "3,4"}, "got both --config and --block"),
        ({"classes": 3}, "expected --config or --block, with --classes, got neither"),
        ({"block": "3"}, "--block: expected input and output channels, as in 64,128, got '3'"),
        ({"block": "3,0"}, "--block: expected a positive integer, got 0"),
        ({"block": "3,4", "classes": 2}, "--classes: a block has none"),
        ({"config": "resnet18", "stride": 2}, "--stride: expected --block with it"),
        ({"block": "3,4", "attention": "sa"}, "--attention: expected one of none, se,"),
        ({"config": '{"in_channels": 3, "out_channels": 4}', "classes": 2}, "a block has none"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ArgumentError, match=message):
        describe_config(**{"config": None, **options})


def test_every_command_with_a_config_has_the_options():
    from typer.main import get_command

    commands = get_command(app).commands
    assert set(commands) == {each.__name__ for each in COMMANDS}
    options = {
        name: {option for each in command.params for option in each.opts}
        for name, command in commands.items()
    }
    found = {name for name, each in options.items() if {"--config", "--block"} <= each}
    assert {"check", "explain", "draw", "drift", "port", "inspect", "record"} <= found


def test_a_command_without_a_config_stays_as_it_is():
    def plain(file: str) -> None: ...

    assert with_config_options(plain) is plain


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"in_channels": 3, "out_channels": 4, "kernel_size": 3}, "ResidualBlockWithAttention"),
        ({"in_channels": 3, "out_channels": 8, "hidden_channels": 2},
         "ResidualBottleneckWithAttention"),
        ({"in_channels": 3, "num_classes": 4, "widths": [8], "depths": [1]},
         "ResidualAttentionNetwork"),
    ],
)  # fmt: skip
def test_the_model_of_a_config_is_inferred(values, kind):
    assert config_from_json(json.dumps(values)).model == kind


def test_num_classes_is_classes():
    assert preset("resnet18", num_classes=7) == preset("resnet18", classes=7)
    with pytest.raises(ArgumentError, match="num_classes is another name of classes"):
        NetworkConfig.from_dict({"num_classes": 3, "classes": 3, "widths": (4,), "depths": (1,)})


def test_what_no_model_has_is_refused():
    with pytest.raises(ArgumentError, match=r"got the fields 'channels'"):
        config_from_json('{"channels": 3}')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "--config", "resnet20", "--size", "0x4"), "--size: expected HEIGHTxWIDTH"),
        (("draw", "--config", "resnet20", "--only", "stage"), "--only: expected one of stages.0.0"),
        (("explain", "--block", "3,4", "--attention", "sa"), "--attention: expected one of none"),
    ],
)
def test_errors_speak_of_options(arguments, message):
    made = [sys.executable, "-m", "resattn", *arguments]
    found = subprocess.run(made, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr.startswith(f"resattn: {message}")
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "key"),
    [("pytorch", "torch"), ("PyTorch", "torch"), ("flax", "jax"), ("keras", "tf"),
     ("TensorFlow", "tf"), ("jax", "jax")],
)  # fmt: skip
def test_frameworks_have_several_names(name, key):
    assert framework_key(name) == key


def test_an_unknown_framework():
    with pytest.raises(ArgumentError, match="framework: expected one of torch, jax, tf, got 'mx'"):
        framework_key("mx")
    with pytest.raises(ArgumentError, match="got 3"):
        framework_key(3)


def test_another_name_gives_the_same_model(torch):
    config = BlockConfig(4, 6)
    live = build_live(config, random_arrays(config), "pytorch")
    assert live.name == "torch"
    assert crosscheck(config, frameworks=("pytorch",)).ok
    assert [each.framework for each in backends(("PyTorch",), ("cpu",))] == ["torch"]
