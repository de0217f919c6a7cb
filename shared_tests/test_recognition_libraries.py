"""Networks of torchvision, timm and Keras: they are recognised, or it is said what differs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from resattn.reading.models import read_model
from resattn.recognition.proof import prove_recognition
from resattn.recognition.recognition import recognise_model
from weights import BottleneckConfig, NetworkConfig, preset, schema
from weights.dialects import DIALECTS
from weights.foreign import adopt

SIZE = (65, 48)  # odd and even, so that every rule of padding shows


def recognise_network(model: Any, size: tuple[int, int] = SIZE, **options: Any):
    return recognise_model(read_model(model, size, 3), **options)


def plain(config: NetworkConfig) -> NetworkConfig:
    """Without widths that are said though they are the default, and what no evaluation shows."""
    usual = tuple(width // 4 for width in config.widths)
    hidden = None if config.hidden_widths == usual else config.hidden_widths
    return replace(
        config, hidden_widths=hidden, zero_init=False, preprocessing=None, drop_path=0, dropout=0
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvision(torchvision, name):
    model = getattr(torchvision.models, name)().eval()
    found = recognise_network(model)
    assert found.config == preset(name)
    assert found.stages["stem.conv"] == "conv1"
    assert found.stages["stages.1.0.shortcut.0"] == "layer2.0.downsample.0"
    assert found.stages["classifier"] == "fc"
    mine = adopt(model, name)  # names and shapes alone do not tell it from resnetblur
    assert found.config == plain(mine.config)
    for name_of_array, array in mine.arrays.items():
        np.testing.assert_array_equal(found.arrays[name_of_array], array)


@pytest.mark.parametrize("name", ["resnext50_32x4d", "wide_resnet50_2"])
def test_torchvision_widths(torchvision, name):
    model = getattr(torchvision.models, name)()
    assert recognise_network(model).config == DIALECTS["torchvision"].architecture(name)


def test_dilated_torchvision(torchvision):
    model = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True])
    found = recognise_network(model, (97, 80))
    assert found.config == preset("resnet50", output_stride=8)


def test_a_block_of_torchvision(torchvision):
    found = recognise_network(torchvision.models.resnet50(), only="layer2.0")
    assert found.config == BottleneckConfig(256, 512, stride=2, attention="none", conv_bias=False)


@pytest.mark.parametrize(
    "name", ["seresnet50", "ecaresnet26t", "resnet50d", "resnetrs50", "resnetblur18", "resnetaa50"]
)
def test_timm(timm, name):
    found = recognise_network(timm.create_model(name), (64, 96))
    expected = plain(DIALECTS["timm"].architecture(name))
    assert found.config is not None
    assert replace(found.config, attention_options=expected.attention_options) == expected
    assert schema(found.config) == schema(expected)


# A network that is none of ours -> a difference, and a part of its sentence.
NONE_OF_OURS = {
    "skresnet18": ("extra_attention", "an attention that ours does not have: "),
    "seresnext26ts": ("moved_attention", "attention se is here, ours is after the last norm"),
    "resnetv2_50": ("preactivation", "as in ResNet v2"),
    "gcresnet33ts": ("another", "is SiLU, ours ReLU"),
}


@pytest.mark.parametrize("name", NONE_OF_OURS)
def test_none_of_ours(timm, name):
    key, sentence = NONE_OF_OURS[name]
    found = recognise_network(timm.create_model(name), (64, 96))
    assert found.config is None
    assert key in {each.key for each in found.differences}
    text = "\n".join(found.describe())
    assert "is none of our blocks or networks" in text
    assert sentence in text
    assert found.describe("zh")


def test_no_residual_network(timm):
    found = recognise_network(timm.create_model("vgg11"), (64, 64))
    assert found.nearest is None


def test_a_softmax_at_the_end(torch, torchvision):
    model = torch.nn.Sequential(torchvision.models.resnet18(), torch.nn.Softmax(1)).eval()
    found = recognise_network(model, (33, 40))
    assert found.config == preset("resnet18")
    assert found.module == "0"
    assert [dict(each)["op"] for each in found.after] == ["softmax"]
    assert prove_recognition(found, model).ok


def test_keras_resnet50(keras):
    """Functional, with biases, padding of its own, and a softmax at the end."""
    model = keras.applications.ResNet50(weights=None, input_shape=(*SIZE, 3))
    found = recognise_network(model)
    mine = adopt(model)
    assert found.config == plain(mine.config)
    assert [dict(each)["op"] for each in found.after] == ["softmax"]
    for name, array in mine.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
