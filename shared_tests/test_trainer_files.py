"""What trainers and libraries keep beside the weights, and configs that say the same."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from shared_tests.test_content import ARRAYS, CONFIG, STATE, unwrap_stored
from weights import BlockConfig, read, read_checkpoint, write
from weights.dialects import DIALECTS
from weights.dialects.back import find_architectures
from weights.dialects.recognise import to_dialect_names
from weights.errors import ArgumentError, ModelError, WeightsError
from weights.foreign import adopt, load_into
from weights.preprocessing import Preprocessing

TOOK = "took 'state_dict' out of the file; beside it, and left out: "


def test_single_numbers_beside_them():
    """examples/imagenet of PyTorch keeps the best accuracy as a tensor."""
    found = unwrap_stored({"best_acc1": np.ones(()), "state_dict": STATE})
    assert found.notes == (f"{TOOK}best_acc1",)
    assert set(found.arrays) == set(STATE)


def test_arrays_beside_them():
    found = unwrap_stored({"mean": np.zeros(3), "state_dict": STATE})
    assert found.notes == (f"{TOOK}mean",)
    found = unwrap_stored({**STATE, "ema": {"shadow": np.zeros(3)}})
    assert found.notes == ("left out: ema",)
    assert set(found.arrays) == set(STATE)
    with pytest.raises(ArgumentError, match=re.escape("(arrays outside of any), head")):
        unwrap_stored({"mean": np.zeros(3), "head": {"weight": np.zeros(3)}})


def test_a_config_that_is_not_ours():
    found = unwrap_stored({"config": "configs/resnet.yaml", "state_dict": STATE})
    assert set(found.arrays) == set(STATE)
    assert not found.label


def test_an_architecture_with_a_tag(torch, tmp_path):
    config = DIALECTS["timm"].architecture("resnet10t")
    state = to_dialect_names(DIALECTS["timm"], config, random_arrays(config))
    state = {name: torch.from_numpy(array) for name, array in state.items()}
    torch.save({"arch": "resnet10t.c3_in1k", "state_dict": state}, tmp_path / "best.pth")
    assert "the file says so" in read_checkpoint(tmp_path / "best.pth").notes[-1]


def test_a_stem_with_the_names_of_a_block(tmp_path):
    """CLIP's ResNets have conv1, conv2 and conv3 in the stem."""
    np.savez(tmp_path / "clip.npz", **STATE, **{"conv2.weight": np.zeros((5, 5, 3, 3))})
    with pytest.raises(WeightsError, match=r"most of its names are those of .*but 1 are not"):
        read_checkpoint(tmp_path / "clip.npz")


def test_a_dtype_that_numpy_does_not_have(torch, tmp_path):
    from safetensors.torch import save_file

    save_file({"conv1.bias": torch.ones(4).to(torch.float8_e4m3fn)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"conv1.bias: expected one of .*, got float8"):
        read_checkpoint(tmp_path / "x.safetensors", BlockConfig(3, 4))


@pytest.mark.parametrize(
    ("channels", "said", "note"),
    [
        (3, {"crop_mode": "border"}, "left out the preprocessing in its pretrained_cfg: crop_mode"),
        (1, {"input_size": [1, 224, 224]}, None),
    ],
)
def test_a_preprocessing_that_cannot_be_expressed(tmp_path, channels, said, note):
    config = replace(DIALECTS["timm"].architecture("resnet10t"), in_channels=channels)
    np.savez(
        tmp_path / "x.npz", **to_dialect_names(DIALECTS["timm"], config, random_arrays(config))
    )
    values = {"architecture": "resnet10t", "pretrained_cfg": said}
    (tmp_path / "config.json").write_text(json.dumps(values))
    found = read_checkpoint(tmp_path / "x.npz")
    assert found.config == config
    notes = found.notes[1:]
    assert len(notes) == (note is not None)
    assert all(each.startswith(note) for each in notes)


def test_a_config_that_says_the_same_with_other_fields(tmp_path):
    """preset() leaves the hidden widths to their default; recognition says them."""
    timm = DIALECTS["timm"].architecture("resnet26")
    held = replace(timm, preprocessing=Preprocessing(), depths=(1, 1, 1, 1))
    given = replace(held, preprocessing=None, hidden_widths=None, form=("bottleneck",) * 4)
    assert held != given
    write(tmp_path / "x.safetensors", held, random_arrays(held))
    assert read(tmp_path / "x.safetensors", given)[0] == held
    for other in (
        replace(given, output_stride=8),
        replace(given, bn_decay=0.5),
        replace(given, stem_pool="max_ceil"),
        replace(given, preprocessing=Preprocessing(256)),
    ):
        with pytest.raises(ArgumentError, match="another than the one given"):
            read(tmp_path / "x.safetensors", other)
    write(tmp_path / "y.safetensors", given, random_arrays(given))
    assert read(tmp_path / "y.safetensors", held)[0].preprocessing == Preprocessing()


def test_what_shapes_do_not_say_is_not_written_back():
    config = replace(DIALECTS["timm"].architecture("seresnet18"), classes=3)
    alike = replace(config, attention_options={"divisor": 8, "reduction": 16})
    assert find_architectures(DIALECTS["timm"], alike) == ("seresnet18",)
    with pytest.raises(ArgumentError, match="seresnet18 has output_stride None, here 8"):
        find_architectures(DIALECTS["timm"], replace(config, output_stride=8))


def make_module(torch):
    """A model with the names of torchvision, which is asked for its state alone."""
    model = torch.nn.Module()
    for name, array in STATE.items():
        module = model
        *path, leaf = name.split(".")
        for each in path:
            if not hasattr(module, each):
                module.add_module(each, torch.nn.Module())
            module = getattr(module, each)
        module.register_buffer(leaf, torch.zeros(array.shape))
    return model


def test_live_models_of_another_shape(torch):
    model = make_module(torch)
    load_into(model, CONFIG, ARRAYS)
    assert (model.fc.weight.numpy() == STATE["fc.weight"]).all()
    wider = replace(CONFIG, classes=7)
    with pytest.raises(WeightsError, match=r"fc.bias: expected \(4,\), got \(7,\)"):
        load_into(model, wider, random_arrays(wider))
    with pytest.raises(ArgumentError, match="config: expected a NetworkConfig, got BlockConfig"):
        adopt(model, config=BlockConfig(3, 4))


def test_live_models_with_other_strides(torch):
    """As timm's output_stride makes them, with the same names and shapes."""
    model = make_module(torch)
    for stride in (2, 1):
        model.conv1 = torch.nn.Conv2d(3, 5, 7, stride, 3, bias=False)
        if stride == 2:
            assert adopt(model, config=CONFIG).config == CONFIG
            load_into(model, CONFIG, ARRAYS)
    for run in (lambda: adopt(model, config=CONFIG), lambda: load_into(model, CONFIG, ARRAYS)):
        with pytest.raises(ModelError, match=r"conv1: expected stride \(2, 2\), got \(1, 1\)"):
            run()
    model.conv1 = torch.nn.Conv2d(3, 5, 7, 2, 6, dilation=2, bias=False)
    with pytest.raises(ModelError, match=r"conv1: expected dilation 1, got \(2, 2\)"):
        adopt(model, config=CONFIG)
