"""What trainers wrap around the weights of a network is taken off, and said."""

import re

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from weights import NetworkConfig, WeightsError, read_checkpoint
from weights.dialects import DIALECTS
from weights.dialects.recognise import to_dialect_names
from weights.errors import ArgumentError
from weights.files.content import Header, unwrap
from weights.stored import StoredArray

CONFIG = NetworkConfig(
    3, 4, (4, 6), (1, 1), attention="none", stem_channels=5, stem_kernel_size=7, stem_stride=2,
    stem_pool="max",
)  # fmt: skip
ARRAYS = random_arrays(CONFIG)
STATE = to_dialect_names(DIALECTS["timm"], CONFIG, ARRAYS)
OTHER = {name: array + 1 for name, array in STATE.items()}
OPTIMIZER = {"state": {0: {"momentum_buffer": np.zeros(3)}}, "param_groups": [{"lr": 0.1}]}


def prefixed(prefix, state=STATE):
    return {f"{prefix}{name}": array for name, array in state.items()}


def raises(error, message):
    return pytest.raises(error, match=re.escape(message))


def stored(content):
    """The same with stored arrays, as the readers give them."""
    if isinstance(content, np.ndarray):
        return StoredArray(content.shape, content.dtype, content.copy)
    if isinstance(content, dict):
        return {name: stored(value) for name, value in content.items()}
    return content


def unwrap_stored(content, part=None):
    return unwrap(Header(stored(content)), "x.pth", part)


TOOK = "took {!r} out of the file"
LEFT_OUT = f"left out {len(STATE)} arrays outside of it: " + ", ".join(
    sorted(prefixed("teacher."))[:6]
)
STRIPPED = "took the prefix {!r} off all names"


@pytest.mark.parametrize(("content", "part", "notes"), [
    (STATE, None, ()),
    ({"state_dict": STATE}, None, (TOOK.format("state_dict"),)),
    ({"model": STATE}, None, (TOOK.format("model"),)),
    ({"model": STATE, "optimizer": OPTIMIZER, "epoch": 3}, None,
     (TOOK.format("model") + "; beside it, and left out: optimizer, epoch",)),
    ({"state_dict": prefixed("module.")}, None,
     (TOOK.format("state_dict"), STRIPPED.format("module."))),
    (prefixed("_orig_mod."), None, (STRIPPED.format("_orig_mod."),)),
    (prefixed("module._orig_mod."), None, (STRIPPED.format("module._orig_mod."),)),
    (prefixed("backbone."), None, (STRIPPED.format("backbone."),)),
    ({**prefixed("backbone."), "head.weight": np.zeros(2)}, "backbone",
     (STRIPPED.format("backbone."), "left out 1 array outside of it: head.weight")),
    ({"model": STATE, "model_ema": OTHER}, "model",
     (TOOK.format("model") + "; beside it, and left out: model_ema",)),
    ({"model": OTHER, "model_ema": STATE}, "model_ema",
     (TOOK.format("model_ema") + "; beside it, and left out: model",)),
    ({"state": {"ema": STATE, "raw": OTHER}}, "state/ema", (TOOK.format("state/ema"),)),
    ({"model": {**prefixed("student."), **prefixed("teacher.", OTHER)}}, "model/student",
     (TOOK.format("model"), STRIPPED.format("student."),
      LEFT_OUT)),
    ({**prefixed("student."), **prefixed("teacher.", OTHER)}, "student",
     (STRIPPED.format("student."),
      LEFT_OUT)),
])  # fmt: skip
def test_wrappers(content, part, notes):
    found = unwrap_stored(content, part)
    assert found.notes == notes
    assert set(found.arrays) == set(STATE)
    assert all((found.arrays[name].read() == STATE[name]).all() for name in STATE)


@pytest.mark.parametrize(("content", "part", "error", "message"), [
    ({"epoch": 3}, None, WeightsError, "x.pth: holds no arrays"),
    ({"model": STATE, "model_ema": OTHER}, None, ArgumentError,
     "x.pth: holds several networks: model, model_ema; say which one with --part"),
    ({"model": STATE, "model_ema": OTHER}, "ema", ArgumentError,
     "x.pth: has no part 'ema'; its parts are: model, model_ema"),
    ({**prefixed("student."), **prefixed("teacher.")}, None, ArgumentError,
     "x.pth: holds several networks, by the prefixes of their names: student, teacher; say which"),
    ({**STATE, **prefixed("ema.")}, None, ArgumentError, ": (no prefix), ema; say which one with"),
    (prefixed("student."), "teacher", ArgumentError,
     "x.pth: has no part 'teacher'; its parts are: student"),
    (STATE, "model", ArgumentError, "x.pth: has no part 'model'; its parts are: none"),
    ({**prefixed("backbone."), "head.weight": np.zeros(2)}, None, ArgumentError,
     "x.pth: 1 array outside of 'backbone': head.weight; to take the network and leave them out, "
     "pass --part backbone (in Python: part=)"),
])  # fmt: skip
def test_what_is_not_clear(content, part, error, message):
    with raises(error, message):
        unwrap_stored(content, part)


def test_a_trainers_file(torch, tmp_path):
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": torch.from_numpy(array) for name, array in STATE.items()}
    saved = {"epoch": 12, "state_dict": state, "optimizer": optimizer.state_dict()}
    torch.save(saved, tmp_path / "last.pth")
    found = read_checkpoint(tmp_path / "last.pth", CONFIG)
    assert found.notes[:2] == (
        "took 'state_dict' out of the file; beside it, and left out: epoch, optimizer",
        "took the prefix 'module.' off all names",
    )
    assert all((found.arrays[name] == ARRAYS[name]).all() for name in ARRAYS)


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_prefixes_in_other_formats(suffix, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / f"net.{suffix}"
    save = save_file if suffix == "safetensors" else lambda held, path: np.savez(path, **held)
    save({**prefixed("backbone."), "head.weight": np.zeros(2, "f")}, path)
    found = read_checkpoint(path, CONFIG, part="backbone")
    assert found.notes[0] == STRIPPED.format("backbone.")
    assert all((found.arrays[name] == ARRAYS[name]).all() for name in ARRAYS)
    with raises(ArgumentError, "1 array outside of 'backbone': head.weight"):
        read_checkpoint(path, CONFIG)


@pytest.mark.parametrize(
    ("said", "reason"),
    [("resnet10t", "the file says so"), ("mine", "no other network that we know")],
)
def test_what_a_trainer_says_it_is(torch, tmp_path, said, reason):
    config = DIALECTS["timm"].architecture("resnet10t")
    state = to_dialect_names(DIALECTS["timm"], config, random_arrays(config))
    state = {name: torch.from_numpy(array) for name, array in state.items()}
    torch.save({"arch": said, "state_dict": state}, tmp_path / "best.pth")
    found = read_checkpoint(tmp_path / "best.pth")
    assert found.config == config
    assert f"resnet10t of timm ({reason}" in found.notes[-1]


def test_whole_models_are_refused(torch, tmp_path):
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "whole.pth")
    message = "state_dict() alone (this one names torch.nn.modules.linear.Linear)"
    with raises(WeightsError, message):
        read_checkpoint(tmp_path / "whole.pth")
