"""What `resattn explain` says: everything, once, and true."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from resattn.checking.cases import KINDS_AND_OPTIONS
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.cli.app import app
from resattn.explaining import words_en, words_published
from resattn.explaining.attention import BY_FILE
from resattn.explaining.entries import FoldedBlock
from resattn.explaining.executed import words
from resattn.explaining.explanation import explain
from resattn.explaining.reasons import COMMON_REASONS
from resattn.explaining.words import WORDS
from resattn.explaining.wrapping import wrap
from resattn.oracle import evaluation as reference
from resattn.oracle.cancellation import idle_biases
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from shared_tests.published_cases import PUBLISHED
from weights import (
    BlockConfig,
    NetworkConfig,
    operations,
    preset,
    register_attention,
    schema,
    write,
)
from weights.frameworks import FRAMEWORKS
from weights.graph import graph
from weights.operations import same_padding
from weights.parameters import Parameter

CASES = [*ATTENTION_VARIANTS, *REPRESENTATIVE, *NETWORKS, *PUBLISHED.values()]
cases = pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
# Every kind with its defaults, a block that does not project, networks.
SHORT = [
    next(case for case in ATTENTION_VARIANTS if case[0].attention == kind)
    for kind in KINDS_AND_OPTIONS
]
SHORT += [REPRESENTATIVE[0], *NETWORKS, *PUBLISHED.values()]
short = pytest.mark.parametrize(("config", "size"), SHORT, ids=name_of)
BLOCK = BlockConfig(64, 128, 3, 2)
CLOSING = tuple("，。；：、）！？”")


def text(config, size=None, width=100, language="en", **options):
    return "\n".join(line for line, _ in explain(config, size, **options).lines(width, language))


def facts_of(config, size=None, batch=8):
    return {fact.key: fact for fact in explain(config, size, batch).facts}


# Words.


def test_both_languages_have_the_same_words():
    assert not set(words_en.WORDS) & {key for words in BY_FILE.values() for key in words.en}
    assert not set(words_en.WORDS) & set(words_published.EN)
    assert set(WORDS["en"]) == set(WORDS["zh"])
    for key, sentence in WORDS["en"].items():
        assert sorted(set(re.findall(r"{\w+}", sentence))) == sorted(
            set(re.findall(r"{\w+}", WORDS["zh"][key]))
        ), key


def test_no_sentence_is_never_said(monkeypatch):
    said = set()

    class Listening(dict):
        def __getitem__(self, key):
            said.add(key)
            return super().__getitem__(key)

        def get(self, key, default=None):
            said.add(key)
            return super().get(key, default)

    monkeypatch.setitem(WORDS, "en", Listening(WORDS["en"]))
    more = [
        (BlockConfig(4, 4, 1, attention="nonlocal"), (5, 4)),
        (BlockConfig(4, 6, attention="ese"), (1, 1)),
        (preset("resnet18"), (64, 64)),
        (BLOCK, (32, 31)),
        (NetworkConfig(3, 2, (4,), (1,), attention="none"), (9, 9)),
    ]
    register_attention("own", torch=object)
    more.append((BlockConfig(4, 4, attention="own"), (5, 4)))

    def gain(build, x):
        return build.product("", x, build.parameter("", "weight"))

    parameters = (Parameter("", "norm scale", (4,)),)
    register_attention("gain", lambda channels: parameters, torch=object, graph=gain)
    more.append((BlockConfig(4, 4, attention="gain"), (5, 4)))
    for config, size in [*CASES, *more]:
        for batch in (1, 2):
            text(config, size, code="torch", batch=batch)
    explain(preset("resnet18"), (64, 64)).lines(brief=True)
    of_live_models = set(words.WORDS["en"])  # said in test_executed_words.py
    never = {key for key in set(WORDS["en"]) - said if not key.startswith("why.plain.")}
    assert never - of_live_models == set()


def test_every_kind_of_operation_has_its_sentences():
    rows = re.findall(r"^\| ([a-z][\w, ]*) \|", operations.__doc__, re.MULTILINE)
    kinds = {kind for row in rows for kind in row.split(", ")} - {"kind"}
    assert {key.split(".")[2] for key in WORDS["en"] if key.startswith("why.plain.")} == (
        kinds - set(COMMON_REASONS) - {"input"}
    )
    assert {key.split(".")[1] for key in WORDS["en"] if key.startswith("op.")} == kinds


def test_chinese_is_chinese():
    """No sentence is in English, and no half-width mark is between Chinese characters."""
    for key, sentence in WORDS["zh"].items():
        plain = re.sub(r"{\w+}", "", sentence)
        names = (
            "set.eps",
            "op.relu",
            "op.sigmoid",
            "op.hard",
            "op.softmax",
            "op.affine",
            "separator",
            "norm.default.eps",
        )
        assert re.search(r"[\u4e00-\u9fff]|^[，、：]$", plain) or key.startswith(names), key
        assert not re.search(
            r"[\u4e00-\u9fff][,;:?!](?:\s|[\u4e00-\u9fff])|[\u4e00-\u9fff]\.$", plain
        ), key
        assert not re.search(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u4e00-\u9fff]", plain), key


@short
@pytest.mark.parametrize("language", WORDS)
def test_it_fits_the_terminal(config, size, language):
    for width in (80, 120):
        for line, style in explain(config, size, batch=2, code="jax").lines(width, language):
            assert cell_len(line) <= width or style == "table" or len(line.split()) < 4, line
            assert not line.lstrip().startswith(CLOSING)
            assert not line.endswith(("（", "“"))
            assert "{" not in line or "{'" in line or "│" in line
            assert "¬" not in line


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_brief_form(language, width):
    """One line for each operation, in the columns that there are."""
    found = explain(preset("resnet18"), (64, 64))
    lines = [line for line, _ in found.lines(width, language, brief=True)]
    table = lines[lines.index("") + 1 :]
    assert len(table) == len(found.entries) + 2
    assert max(map(cell_len, lines)) <= width
    assert table[-1].split()[-1] == f"{found.totals()['multiply_adds']:,}"
    assert width == 60 or table[-1].split()[-2] == "11,689,512"
    names = [line.split()[0] for line in table[1:-1]]
    assert names[:3] == ["input", "stem.conv", "stem.bn"]
    assert "stages.3.1" in names
    if width == 120 and language == "en":
        assert any(line.split() == ["stages.0.1", "as", "stages.0.0", "64×16×16", "73,984",
                                    "18,874,368"] for line in table)  # fmt: skip


def test_wrapping():
    assert wrap("一二三四五（六七），八九", 10) == ["一二三四五", "（六七），", "八九"]
    assert wrap("a map of 32 × 32 here", 12) == ["a map of", "32 × 32 here"]
    assert wrap("", 5) == [""]
    assert wrap("averylongword", 5) == ["averylongword"]


# Entries.


@cases
def test_every_operation_is_listed_once_and_in_order(config, size):
    entries = explain(config, size, batch=2).entries
    names = [
        name
        for each in entries
        for name in (
            [o.name for o in each.operations]
            if isinstance(each, FoldedBlock)
            else [each.operation.name]
        )
    ]
    assert names == [operation.name for operation in graph(config, size)]
    shown = text(config, size, batch=2)
    for each in entries:
        name = each.name if isinstance(each, FoldedBlock) else each.operation.name
        head = (
            rf"^{re.escape(name)}: as "
            if isinstance(each, FoldedBlock)
            else rf"^ *\d+  {re.escape(name)}: "
        )
        assert name == "input" or len(re.findall(head, shown, re.MULTILINE)) == 1, name


def test_blocks_of_one_form_are_listed_once():
    entries = explain(preset("se-resnet34")).entries
    folds = {each.name: each.like for each in entries if isinstance(each, FoldedBlock)}
    assert len(folds) == 16 - 2
    assert folds["stages.0.1"] == folds["stages.3.2"] == "stages.0.0"
    assert folds["stages.3.0"] == "stages.1.0"
    shown = text(preset("se-resnet34"))
    assert "stages.3.0: as stages.1.0\n     15 operations, 256 → 512 channels, stride 2" in shown


@cases
def test_totals(config, size):
    totals = explain(config, size, batch=2, dtype="float64").totals()
    numbers = [(np.prod(parameter.shape), parameter.trainable) for parameter in schema(config)]
    assert totals["parameters"] == sum(count for count, trainable in numbers if trainable)
    assert totals["statistics"] == sum(count for count, trainable in numbers if not trainable)
    assert totals["weight_bytes"] == 8 * sum(count for count, _ in numbers)
    x = random_input(config, size, 2, "float64")
    made = reference.stages(config, random_arrays(config, "float64"), x, training=False)
    assert totals["multiply_adds"] * 2 == made.state.multiply_adds
    assert totals["output"] == list(made.output.shape[1:])
    assert totals["training_bytes"] == totals["training_numbers"] * 2 * 8
    largest = max(operation.numbers for operation in graph(config, size))
    assert (
        largest
        < totals["peak_numbers"]
        <= sum(operation.numbers for operation in graph(config, size))
    )
    assert f"{totals['multiply_adds']:,} per image" in text(config, size, batch=2)


def test_the_peak_by_hand():
    """Where attention multiplies: the input waits for the shortcut, bn2 and the gates are read, the
    product is made.
    """
    totals = explain(BLOCK, batch=1).totals()
    assert totals["peak_at"] == "attention"
    assert totals["peak_numbers"] == 64 * 32 * 32 + 128 * 16 * 16 + 128 + 128 * 16 * 16


def test_how_the_receptive_field_is_written():
    assert "435 × 435, more than the image has" in text(preset("resnet18"))
    shown = "the whole image, through the attention; the convolutions alone would see 435 × 435"
    assert shown in text(preset("se-resnet18"), width=160)


# Facts.


@pytest.mark.parametrize("reach", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_is_that_of_jax(jax, reach, stride):
    for size in range(reach, 14):
        assert [same_padding(size, reach, stride)] == jax.lax.padtype_to_pads(
            (size,), (reach,), (stride,), "SAME"
        )


@pytest.mark.parametrize(("stride", "size", "rows", "cols"), [
    (1, (32, 32), "(1, 1)", "(1, 1)"),
    (1, (33, 31), "(1, 1)", "(1, 1)"),
    (2, (33, 31), "(1, 1)", "(1, 1)"),
    (2, (32, 32), "(0, 1)", "(0, 1)"),
    (2, (32, 31), "(0, 1)", "(1, 1)"),
    (2, (31, 32), "(1, 1)", "(0, 1)"),
    ((2, 1), (32, 32), "(0, 1)", "(1, 1)"),
    ((2, 1), (31, 32), "(1, 1)", "(1, 1)"),
    ((1, 2), (31, 32), "(1, 1)", "(0, 1)"),
])  # fmt: skip
def test_padding(stride, size, rows, cols):
    facts = facts_of(BlockConfig(4, 6, 3, stride), size)
    if rows == cols == "(1, 1)":
        assert facts["padding.agree.all"].values["names"] == ["conv1", "conv2"]
        assert "padding.one" not in facts
    else:
        values = facts["padding.one"].values
        assert (values["name"], values["same"], values["same_cols"], values["ours"]) == (
            "conv1",
            rows,
            cols,
            "(1, 1)",
        )
        assert facts["padding.agree"].values["names"] == ["conv2"]


def test_padding_of_other_kernels():
    assert "padding.none" in facts_of(BlockConfig(4, 6, 1, 2, attention="none"))
    rows = facts_of(preset("resnet18"))["padding.many"].table[1:]
    assert rows[0] == ("stem.conv", "224 × 224", "2", "(2, 3) (2, 3)", "(3, 3) (3, 3)")
    assert [row[0] for row in rows] == [
        "stem.conv",
        "stem",
        "stages.1.0.conv1",
        "stages.2.0.conv1",
        "stages.3.0.conv1",
    ]
    assert "pooling" in facts_of(preset("resnet18"))
    assert "pooling" not in facts_of(preset("resnet20"))


def test_shortcuts():
    assert "shortcut.identity" in facts_of(BlockConfig(4, 4))
    assert facts_of(BlockConfig(4, 4, 3, (2, 1)))["shortcut.projection"].values["stride"] == "2 × 1"
    assert facts_of(BlockConfig(4, 6))["shortcut.projection"].values == {
        "in": 4,
        "out": 6,
        "stride": "1",
        "kernel": "1×1",
        "norm": "norm.batch",
    }
    network = facts_of(preset("resnet18"))["shortcut.network"].values
    assert network == {"names": ["stages.1.0", "stages.2.0", "stages.3.0"], "others": 5}
    assert "shortcut.network.none" in facts_of(NetworkConfig(3, 2, (4,), (2,)))


@cases
def test_idle_biases_are_those_of_the_oracle(config, size):
    arrays = random_arrays(config, "float64")
    x = random_input(config, size, 3, "float64")
    shape = reference.run(config, arrays, x, training=False).output.shape
    vanishing = reference.run(
        config, arrays, x, random_cotangent(shape, "float64"), training=True
    ).vanishing
    assert set(idle_biases(graph(config, size).operations)) == vanishing
    facts = facts_of(config, size)
    softmax = any(re.search(r"conv_attn|phi", name) for name in vanishing)
    fact = facts.pop("bias.idle.softmax" if softmax else "bias.idle", None)
    assert set(fact.values["names"] if fact else ()) == vanishing
    assert not {"bias.idle", "bias.idle.softmax"} & set(facts)
    assert ("bias.on" in facts, "bias.off" in facts) == (config.conv_bias, not config.conv_bias)


def test_norms():
    facts = facts_of(BlockConfig(4, 6, bn_eps=1e-3, bn_decay=0.99))
    values = facts["norm.all"].values
    assert (values["eps"], values["decay"], values["momentum"]) == ("1e-3", "0.99", "0.01")
    assert values["eps_defaults"] == ["PyTorch 1e-5", "Flax NNX 1e-5"]
    assert values["decay_defaults"] == ["PyTorch 0.9"]
    own = [
        fact
        for fact in explain(BlockConfig(4, 6, attention="triplet")).facts
        if fact.key == "norm.some"
    ]
    assert [fact.values["decay"] for fact in own] == ["0.9", "0.99"]
    assert own[1].values["names"] == ["attention.cw.bn", "attention.hc.bn", "attention.hw.bn"]


def test_how_many_values_a_channel():
    assert facts_of(BLOCK, (32, 30), 4)["count.one"].values["n"] == 4 * 16 * 15
    assert facts_of(BLOCK, (2, 2), 1)["count.error"].values["names"] == [
        "bn1",
        "bn2",
        "shortcut.1",
    ]
    bam = BlockConfig(16, 16, attention="bam")
    assert facts_of(bam, (8, 8), 1)["count.error"].values["names"] == ["attention.channel_att.bn_1"]
    values = facts_of(bam, (8, 8), 2)["count.range"].values
    assert (values["n"], values["most"], values["factor"]) == (2, 128, "2")


def test_facts_of_kinds():
    assert "(average, maximum)" in text(BlockConfig(8, 8, attention="cbam"))
    assert "3 taps at 64 channels" in text(BlockConfig(64, 64, attention="eca"))
    assert "Hidden width 4, 8, 16 and 32" in text(preset("se-resnet18"))
    mhsa = BlockConfig(8, 8, attention="mhsa", attention_options={"size": (6, 5), "bias": True})
    facts = facts_of(mhsa)
    assert facts["size.fixed"].values == {"maps": ["6 × 5"], "image": "6 × 5"}
    assert facts["bias.keys"].values["names"] == ["attention.qkv.bias"]
    assert "bias.keys" not in facts_of(replace(mhsa, attention_options={"size": (6, 5)}))
    assert "kind.mhsa.scale_positions.True" in facts


def test_layouts():
    rows = {
        row[0]: row[1:]
        for row in facts_of(BlockConfig(4, 6, attention="eca"))["layout"].table
        if row[0]
    }
    assert rows["bn1.running_var"] == ("running_var", "var", "moving_variance")
    assert facts_of(BLOCK)["sequence"].values["jax"] == "shortcut.layers.0.weight".replace(
        "weight", "kernel"
    )
    assert "sequence" not in facts_of(BlockConfig(4, 4))
    assert facts_of(BLOCK)["unread"].values["names"] == FRAMEWORKS["torch"].unread
    depthwise = BlockConfig(
        4, 6, attention="ge", attention_options={"gather": "convolution", "extent": 2}
    )
    table = facts_of(depthwise)["layout"].table
    below = table[[row[0] for row in table].index("attention.gather.conv1.weight") + 1]
    assert below[1:] == ("(out in row col)", "(row col in out)", "(row col out in)")


# Code.


def test_code_is_printed_beside_or_above():
    wide, narrow = (text(BLOCK, width=width, code="tf") for width in (120, 80))
    assert re.search(r"2  bn1: batch norm.* │ y = self\.bn1\(y, training=training\)", wide)
    assert (
        "  2  bn1: batch norm, eps 1e-5, decay 0.9\n     │ y = self.bn1(y, training=training)"
        in narrow
    )
    assert "│" not in text(BLOCK)


# The command.


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command(tmp_path):
    assert "explain" in run("--help").output
    result = run("explain", "--json", tmp_path / "block.json")
    assert result.exit_code == 0, result.output
    assert result.output.startswith(
        "A residual block, 64 → 128 channels, kernel 3×3, stride 2, attention se"
    )
    written = json.loads((tmp_path / "block.json").read_text())
    assert written["totals"]["parameters"] == 232712
    assert written["size"] == [32, 32]
    assert [step["name"] for step in written["steps"]][:3] == ["input", "conv1", "bn1"]
    assert run("explain", "--lang", "zh").output.startswith("逐步讲解：残差块")


def test_a_weights_file(tmp_path):
    config = NetworkConfig(
        3,
        4,
        (4, 6),
        (1, 1),
        attention="mhsa",
        attention_options=({"size": (9, 8)}, {"size": (5, 4), "heads": 2}),
    )
    write(tmp_path / "net.safetensors", config, random_arrays(config))
    output = run(
        "explain", tmp_path / "net.safetensors", "--code", "jax", "--json", tmp_path / "net.json"
    ).output
    steps = json.loads((tmp_path / "net.json").read_text())["steps"]
    names = [name for step in steps for name in step.get("operations", [step["name"]])]
    assert names == [operation.name for operation in graph(config, (9, 8))]
    assert steps[1]["code"][-1].strip() == "y = self.conv(x)"
    assert "for images of 9 × 8" in output
    assert "A residual network of 2 blocks, widths 4 and 6" in output


def test_default_sizes():
    for config, size in (
        (BLOCK, (32, 32)),
        (preset("resnet18"), (224, 224)),
        (preset("resnet20"), (32, 32)),
    ):
        image = explain(config).graph["input"].shape
        assert (image[1].size, image[2].size) == size


def block_of(kind, **options):
    config = BlockConfig(4, 4, attention=kind, attention_options=options)
    return "--config", config.to_json()


@pytest.mark.parametrize(("options", "message"), [
    (("--size", "32"), "--size: expected HEIGHTxWIDTH"),
    (("--lang", "de"), "--lang: expected one of en, zh, got 'de'"),
    (("--code", "mxnet"), "--code: expected one of torch, jax, tf, got 'mxnet'"),
    (("--dtype", "int8"), "--dtype: expected one of float16, float32, float64, got 'int8'"),
    ((*block_of("mhsa", size=(6, 5)), "--size", "8x8"),
     "size: images of 8 x 8 do not fit attention: mhsa: was made for maps of 6 x 5 "
     "(height x width) by its option size, got 8 x 8; images of 6 x 5 fit"),
    ((*block_of("simam"), "--size", "1x1"),
     "simam: expected maps of 2 or more positions, got 1 x 1"),
    ((*block_of("nonlocal", subsample=True), "--size", "1x9"),
     "nonlocal with subsample: expected 2 or more along each axis, got 1 x 9"),
    (("--as", "resnet50"), "--as: says what is in a file"),
])  # fmt: skip
def test_errors(options, message):
    result = run("explain", *options)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_an_own_kind_is_one_operation():
    register_attention("own", torch=object, summary="Mine.")
    shown = text(BlockConfig(4, 4, attention="own"), code="torch")
    assert "Attention (own)\nMine.\n" in shown
    assert "attention: attention own" in shown
    assert "own is a kind of your own" in shown


def test_an_own_kind_with_a_graph_has_plain_sentences():
    def gain(build, x):
        return build.product("", build.activation("relu", x), build.parameter("", "weight"))

    parameters = (Parameter("", "norm scale", (4,)),)
    register_attention("gain", lambda channels: parameters, torch=object, graph=gain)
    entries = explain(BlockConfig(4, 4, attention="gain")).entries
    reasons = [entry.reason for entry in entries if entry.part == "attention"]
    assert reasons == ["nonlinear", "plain.parameter", "plain.product"]
    assert "第一个输入乘以第二个。" in text(BlockConfig(4, 4, attention="gain"), language="zh")


def test_a_kind_without_a_file_has_plain_sentences(monkeypatch):
    monkeypatch.delitem(BY_FILE, "eca")
    entries = explain(BlockConfig(4, 4, attention="eca")).entries
    reasons = [entry.reason for entry in entries if entry.part == "attention"]
    assert reasons == ["squeeze", "plain.convolution_1d", "gate", "plain.product"]
