"""A model that is nearly one of ours: what differs is found and said, in English and Chinese."""

from __future__ import annotations

import re

import pytest

from resattn.reading.models import read_model
from resattn.recognition import words_en, words_zh
from resattn.recognition.proof import prove_recognition
from resattn.recognition.recognition import recognise_model
from shared_tests.recognition_cases import make_block_class
from shared_tests.test_sketch import sketch
from weights import BlockConfig, NetworkConfig
from weights.errors import ArgumentError, ModelError

SIZE = (9, 8)
OURS = BlockConfig(6, 8, attention="none")


def recognise_by_hand(torch, expected=None, **options):
    return recognise_model(read_model(make_block_class(torch)(**options), SIZE, 6), expected)


def keys(found):
    return [(each.key, each.stage) for each in found.differences]


def test_the_block_by_hand_is_ours(torch):
    """Only what is changed below makes it another."""
    assert recognise_by_hand(torch).config == OURS
    assert recognise_by_hand(torch, stride=2).config == BlockConfig(
        6, 8, stride=2, attention="none"
    )
    found = recognise_by_hand(torch, gate="se")
    assert found.config == BlockConfig(6, 8, attention="se", attention_options={"reduction": 2})
    assert recognise_by_hand(torch, norm2=True).differences == ()


# What is changed -> what differs, and where; and a part of the sentence in English and Chinese.
NEAR = {
    "kernel": ({"kernel2": 5}, ("kernel", "conv2"), "c2 .* has a 5x5 kernel, ours 3x3", "5x5"),
    "padding": (
        {"kernel2": 1, "padding2": 0}, ("kernel", "conv2"), "has a 1x1 kernel, ours 3x3", "1x1"
    ),
    "groups": ({"groups2": 2}, ("groups", "conv2"), "c2 .* has 2 groups, ours 1", "2 个分组"),
    "bias": ({"bias2": False}, ("bias", "conv2"), "c2 .* has no bias, ours one", "没有偏置"),
    "width": ({"width": 10}, ("width", "conv1"), "c1 .* has 10 channels, ours 8", "10 个通道"),
    "eps": ({"eps2": 1e-3}, ("eps", "bn2"), "n2 .* has eps 0.001, ours 1e-05", "eps 是 0.001"),
    "affine": ({"affine2": False}, ("no_role", "bn2"), "has no (scale|offset), ours", "我们的有"),
    "norm": ({"norm2": False}, ("missing", "bn2"), r"batch norm is missing \(bn2", "缺少批"),
    "relu": ({"relu": "identity"}, ("missing", "relu"), r"ReLU is missing \(relu of", "缺少ReLU"),
    "silu": ({"relu": "silu"}, ("another", "relu"), "is SiLU, ours ReLU", "SiLU"),
    "last": ({"last": "identity"}, ("missing", "output"), "ReLU is missing", "缺少ReLU"),
    "gelu": ({"last": "gelu"}, ("another", "output"), "is GELU, ours ReLU", "GELU"),
    "standardised": (
        {"first": "standardised"}, ("weighed", "conv1"), "kernel of c1 .* computed before", "标准化"
    ),
    "reduction of an attention": (
        {"gate": "maximum"}, ("another", "attention.global_average"),
        "is maximum over rows and cols, ours mean over rows and cols", "沿行和列取最大值"
    ),
    "activation of an attention": (
        {"gate": "tanh"}, ("another", "attention.relu"), "is tanh.*, ours ReLU", "tanh"
    ),
    "biases of an attention": (
        {"gate": "no bias"}, ("bias", "attention.fc1"), "gate.a .* has no bias", "没有偏置"
    ),
    "foreign attention": (
        {"gate": "three"}, ("extra_attention", "bn2"),
        "mean over rows and cols, linear 8 to 4 .*, ReLU, linear 4 to 8 .*, ReLU, linear 8 to 8",
        "全连接 8 → 4",
    ),
    "between": ({"between": "cumsum"}, ("extra", "bn2"), r"cumsum \(unknown\), which", "cumsum"),
    "after attention": (
        {"gate": "se", "between": "relu"}, ("extra", "attention"), "ReLU, which ours", "ReLU"
    ),
    "third path": ({"third": True}, ("extra_path", "sum"), "a third path", "第三条路径"),
}  # fmt: skip


def functions(torch, options):
    known = {
        "identity": torch.nn.Identity(),
        "silu": torch.nn.SiLU(),
        "gelu": torch.nn.GELU(),
        "relu": torch.nn.ReLU(),
        "cumsum": lambda x: torch.cumsum(x, 1),
    }
    named = ("relu", "last", "between")
    return {name: known[value] if name in named else value for name, value in options.items()}


@pytest.mark.parametrize("case", NEAR)
def test_near_misses(torch, case):
    options, where, english, chinese = NEAR[case]
    found = recognise_by_hand(torch, **functions(torch, options))
    assert found.config is None
    assert where in keys(found)
    assert len({key for key, _ in keys(found)}) == 1
    assert re.search(english, "\n".join(found.describe("en")))
    assert chinese in "\n".join(found.describe("zh"))
    if where[0] not in ("extra_path", "extra_attention", "extra", "missing"):
        assert all(each.origin.line for each in found.differences)


def test_of_equally_near_configs_the_usual_one(torch):
    """One norm has another eps than the other: the default is ours."""
    found = recognise_model(read_model(make_block_class(torch)(eps2=1e-3, shares=True), SIZE, 6))
    assert found.nearest == BlockConfig(6, 6, attention="none")
    assert keys(found) == [("eps", "bn2")]
    found = recognise_model(read_model(make_block_class(torch)(eps1=1e-3, shares=True), SIZE, 6))
    assert keys(found) == [("eps", "bn1")]


def test_a_dilation_is_an_option(torch):
    found = recognise_by_hand(torch, dilation2=2)
    assert found.config == BlockConfig(6, 8, attention="none", dilation=(1, 2))


def test_an_expected_config_is_what_it_is_compared_with(torch):
    found = recognise_by_hand(torch, BlockConfig(6, 8, 5, attention="none"))
    assert keys(found) == [("kernel", "conv1"), ("kernel", "conv2")]
    found = recognise_by_hand(torch, BlockConfig(6, 8, attention="se"))
    assert keys(found) == [("missing_attention", "attention")]
    network = NetworkConfig(6, 3, (8,), (2,), attention="none")
    assert ("blocks", "") in keys(recognise_by_hand(torch, network))


def test_preactivation(torch):
    nn = torch.nn

    class V2(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(6, 6, 3, 1, 1), nn.Conv2d(6, 6, 3, 1, 1)
            self.m, self.n = nn.BatchNorm2d(6), nn.BatchNorm2d(6)

        def forward(self, x):
            y = self.a(torch.relu(self.m(x)))
            return x + self.b(torch.relu(self.n(y)))

    found = recognise_model(read_model(V2().eval(), SIZE))
    assert keys(found) == [("preactivation", "sum")]
    assert "as in ResNet v2" in found.describe()[2]
    assert "ResNet v2" in found.describe("zh")[2]


def test_no_residual_sum(torch):
    nn = torch.nn
    found = recognise_model(read_model(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), SIZE))
    assert found.nearest is None
    assert "has no residual block" in found.describe()[0]
    assert "没有残差块" in found.describe("zh")[0]


# The sketch of the forum thread


def test_the_sketch_at_stride_1(torch):
    model = sketch(torch, 1).eval()
    found = recognise_model(read_model(model, (16, 12)))
    assert found.config == BlockConfig(64, 128, 3, 1, attention="none")
    assert found.parameters == {name: name for name in found.parameters}
    assert prove_recognition(found, model).ok


def test_the_sketch_at_stride_2(torch):
    found = recognise_model(read_model(sketch(torch, 2), (16, 12)))
    assert found.config is None
    assert found.nearest == BlockConfig(64, 128, 3, 2, attention="none")
    english, chinese = found.describe("en"), found.describe("zh")
    assert len(found.differences) == 1
    assert english[1].startswith("nearest is a residual block, 64 to 128 channels, kernel 3x3, ")
    assert re.fullmatch(
        r"- conv2 \(test_sketch.py, line \d+\) has stride 2, ours 1: the main path shrinks by 4, "
        "the shortcut by 2, and the addition fails",
        english[2],
    )
    assert re.fullmatch(
        r"- conv2（test_sketch.py，第 \d+ 行）的步幅是 2，我们的是 1：主路径缩小到 1/4，"
        "捷径缩小到 1/2，因此无法相加",
        chinese[2],
    )


def test_a_sum_that_fails_for_another_reason(torch):
    nn = torch.nn

    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(6, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)
            self.m, self.n = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

        def forward(self, x):
            return torch.relu(x + self.n(self.b(torch.relu(self.m(self.a(x))))))

    found = recognise_model(read_model(Wide(), SIZE))
    assert found.config is None
    assert "the addition fails, since the main path ends as 8x9x8, the shortcut as 6x9x8" in (
        "\n".join(found.describe())
    )


# Wrappers


def test_what_is_beside(torch):
    nn = torch.nn
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3), make_block_class(torch)(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4), nn.Softmax(1),
    ).eval()  # fmt: skip
    found = recognise_model(read_model(model, SIZE, 3))
    assert found.config == OURS
    assert found.module == "2"
    assert [dict(each)["op"] for each in found.before] == ["batch_norm", "convolution"]
    assert [dict(each)["op"] for each in found.after] == ["average", "dense", "softmax"]
    assert "before it the model computes batch norm, 3x3 convolution, 3 to 6" in found.describe()
    assert prove_recognition(found, model).ok


def test_several_blocks_are_several_answers(torch):
    nn, block = torch.nn, make_block_class(torch)
    model = nn.Sequential(
        block(), nn.Conv2d(8, 6, 1), block(eps2=1e-3), nn.Conv2d(8, 6, 1), block()
    )
    found = recognise_model(read_model(model.eval(), SIZE, 6))
    assert found.config is None
    assert [each.module for each in found.alternatives] == ["0", "4"]
    assert "look at one with only=MODULE or with choice" in "\n".join(found.describe())
    assert recognise_model(found.reading, choice=2).module == "4"
    assert recognise_model(found.reading, only="4").config == OURS
    with pytest.raises(ArgumentError, match="expected a number from 1 to 2, got 0"):
        recognise_model(found.reading, choice=0)


def test_unused_parameters_are_said(torch):
    model = make_block_class(torch)()
    found = recognise_model(read_model(model, SIZE, 6))
    assert "gate.a.weight" in found.unused
    assert any(line.startswith("nothing uses gate.a.weight") for line in found.describe())


def test_a_part_whose_output_no_module_has(torch):
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block = make_block_class(torch)(last=torch.nn.Identity())

        def forward(self, x):
            return torch.softmax(torch.relu(self.block(x)), 1)

    model = Wrapped().eval()
    found = recognise_model(read_model(model, SIZE, 6))
    assert found.config == OURS
    with pytest.raises(ModelError, match="its output is the output of no module"):
        prove_recognition(found, model)


# Words


def test_both_languages_have_the_same_words():
    assert words_en.WORDS.keys() == words_zh.WORDS.keys()
    for key, text in words_en.WORDS.items():
        fields = set(re.findall(r"{(\w+)}", text))
        assert set(re.findall(r"{(\w+)}", words_zh.WORDS[key])) == fields, key
