"""What `resattn explain` tells: all of it, once, and true."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from resattn.checking.cases import ATTENTION
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.cli.app import app
from resattn.explaining import source, words_en, words_zh
from resattn.explaining.analysis import idle_biases, receptive_fields, sights, training_numbers
from resattn.explaining.explanation import WORDS, Fold, explain, wrapped
from resattn.explaining.facts import same_padding
from resattn.oracle import model as reference
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from weights import BlockConfig, NetworkConfig, preset, register_attention, schema, write
from weights.frameworks import LAYOUTS
from weights.graph import graph
from weights.stages import Recorder

CASES = ATTENTION_VARIANTS + REPRESENTATIVE + NETWORKS
cases = pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
# Every kind with its defaults, a block that does not project, networks.
SHORT = [
    next(case for case in ATTENTION_VARIANTS if case[0].attention == kind) for kind in ATTENTION
]
SHORT += [REPRESENTATIVE[0], *NETWORKS]
# What a framework is run with.
executed = pytest.mark.parametrize(
    ("config", "size"), [*ATTENTION_VARIANTS, *REPRESENTATIVE[:3], *NETWORKS], ids=name_of
)
short = pytest.mark.parametrize(("config", "size"), SHORT, ids=name_of)
BLOCK = BlockConfig(64, 128, 3, 2)
CLOSING = tuple("，。；：、）！？”")


def text(config, size=None, width=100, language="en", **options):
    return "\n".join(line for line, _ in explain(config, size, **options).lines(width, language))


def told_facts(config, size=None, batch=8):
    return {fact.key: fact for fact in explain(config, size, batch).facts}


@pytest.fixture
def one_thread(torch):
    """Small tensors: several threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


# Words.


def test_both_languages_have_the_same_words():
    assert set(words_en.WORDS) == set(words_zh.WORDS)
    for key, sentence in words_en.WORDS.items():
        assert sorted(set(re.findall(r"{\w+}", sentence))) == sorted(
            set(re.findall(r"{\w+}", words_zh.WORDS[key]))
        ), key


def test_no_sentence_is_never_said(monkeypatch):
    said = set()

    class Listening(dict):
        def __getitem__(self, key):
            said.add(key)
            return super().__getitem__(key)

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
    for config, size in [*CASES, *more]:
        for batch in (1, 2):
            text(config, size, code="torch", batch=batch)
    # Operations of kinds that are always opened; what a field of the size of some axis is called.
    assert set(words_en.WORDS) - said == {"why.closed", "summary.none", "total.field.whole"}


def test_chinese_is_chinese():
    """No sentence was left in English, no half-width punctuation stands between Chinese
    characters.
    """
    for key, sentence in words_zh.WORDS.items():
        plain = re.sub(r"{\w+}", "", sentence)
        names = (
            "set.eps",
            "op.relu",
            "op.sigmoid",
            "op.hard",
            "op.softmax",
            "op.4 (",
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


def test_wrapping():
    assert wrapped("一二三四五（六七），八九", 10) == ["一二三四五", "（六七），", "八九"]
    assert wrapped("a map of 32 × 32 here", 12) == ["a map of", "32 × 32 here"]
    assert wrapped("", 5) == [""]
    assert wrapped("averylongword", 5) == ["averylongword"]


# What is told.


@cases
def test_every_operation_is_told_once_and_in_order(config, size):
    told = explain(config, size, batch=2).told
    names = [
        name
        for each in told
        for name in (
            [o.name for o in each.operations] if isinstance(each, Fold) else [each.operation.name]
        )
    ]
    assert names == [operation.name for operation in graph(config, size)]
    shown = text(config, size, batch=2)
    for each in told:
        name = each.name if isinstance(each, Fold) else each.operation.name
        head = (
            rf"^{re.escape(name)}: as "
            if isinstance(each, Fold)
            else rf"^ *\d+  {re.escape(name)}: "
        )
        assert name == "input" or len(re.findall(head, shown, re.MULTILINE)) == 1, name


def test_blocks_of_one_form_are_told_once():
    told = explain(preset("se-resnet34")).told
    folds = {each.name: each.like for each in told if isinstance(each, Fold)}
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
    state, _, output = reference.stages(config, random_arrays(config, "float64"), x, training=False)
    assert totals["multiply_adds"] * 2 == state.multiply_adds
    assert totals["output"] == list(output.shape[1:])
    assert totals["training_bytes"] == totals["training_numbers"] * 2 * 8
    largest = max(operation.numbers for operation in graph(config, size))
    assert (
        largest
        < totals["peak_numbers"]
        <= sum(operation.numbers for operation in graph(config, size))
    )
    assert f"{totals['multiply_adds']:,} an image" in text(config, size, batch=2)


def test_the_peak_by_hand():
    """Where attention multiplies: the input waits for the shortcut, bn2 and the gates are read, the
    product is made.
    """
    totals = explain(BLOCK, batch=1).totals()
    assert totals["peak_at"] == "attention"
    assert totals["peak_numbers"] == 64 * 32 * 32 + 128 * 16 * 16 + 128 + 128 * 16 * 16


def copies(config, found, batch):
    """What PyTorch keeps besides: a padded copy (eca), means and deviations (layer norms)."""
    count = sum(2 * batch for operation in found if operation.kind == "layer norm")
    convs = [operation for operation in found if operation.kind == "1-d convolution"]
    return count + sum(batch * 2 * (operation.settings["kernel"][0] // 2) for operation in convs)


@executed
def test_what_backward_reads_is_what_pytorch_keeps(config, size, one_thread):
    import pytorch_impl

    model = (
        pytorch_impl.ResidualBlockWithAttention.from_config(config)
        if isinstance(config, BlockConfig)
        else pytorch_impl.ResidualAttentionNetwork(config)
    )
    held = {leaf.data_ptr() for leaf in (*model.parameters(), *model.buffers())}
    batch, seen, alive = 3, {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if tensor.is_floating_point() and tensor.dim() > 1 and storage.data_ptr() not in held:
            alive.append(tensor)
            seen[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    torch = one_thread
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = model(torch.as_tensor(random_input(config, size, batch, "float32")))
    found = graph(config, size)
    extra = sum(seen.values()) - batch * training_numbers(found) - copies(config, found, batch)
    # Matrix products of several axes read copies in another order: at most those of queries and
    # keys.
    queries = [
        operation.numbers
        for operation in found
        if operation.kind == "part" and "value" not in operation.name
    ]
    assert 0 <= extra <= batch * sum(queries)
    assert y.grad_fn is not None


# Receptive fields.


def positive(config):
    """Weights with which whatever is added anywhere is seen in the end: no relu shuts, nothing
    cancels.
    """
    return {
        name: np.abs(array) * 0.2 + 0.01 for name, array in random_arrays(config, "float64").items()
    }


LOCAL = [
    (BlockConfig(2, 3, 3, 2, attention="none"), (13, 12)),
    (BlockConfig(2, 2, (5, 3), attention="none"), (9, 14)),
    (BlockConfig(2, 3, 3, (2, 1), attention="none"), (10, 9)),
    (BlockConfig(2, 3, 1, 3, attention="none"), (10, 9)),
    (BlockConfig(2, 3, 7, 4, attention="none"), (30, 19)),
    (NetworkConfig(1, 2, (2, 3), (1, 2), stem_kernel_size=7, stem_stride=2, stem_pool=True, attention="none"), (40, 33)),
    *((replace(config, out_channels=3), (17, 16)) for config, _ in ATTENTION_VARIANTS if config.attention == "ge"
      if config.attention_options and not config.has_fixed_size and not config.attention_options.get("mlp")),
]  # fmt: skip
WHOLE = [case for case in ATTENTION_VARIANTS if case[0].attention not in ("none", "ge")]


@pytest.mark.parametrize(("config", "size"), LOCAL + WHOLE, ids=name_of)
@pytest.mark.parametrize("along", [1, 2], ids=["rows", "cols"])
def test_receptive_fields_against_changed_images(config, size, along):
    """Every row (or column) of the image is changed in turn: which places of which operation
    notice?
    """
    arrays, image = positive(config), np.abs(random_input(config, size, 1, "float64"))
    found = graph(config, size)
    seen = {name: pair[along - 1] for name, pair in sights(found).items()}

    def values(x):
        state, _, _ = reference.stages(config, arrays, x, training=False)
        return {name: stage.computed.value for name, stage in state.stages.items()}

    before = values(image)
    compared = [name for name in before if before[name].ndim == 4 and seen[name].axis is not None]
    assert compared
    changed = {name: [] for name in compared}
    for line in range(size[along - 1]):
        other = image.copy()
        changed_line = np.moveaxis(other, along + 1, 0)[line]
        changed_line += 10.0 + np.arange(changed_line.size).reshape(changed_line.shape) % 3
        after = values(other)
        for name in compared:
            axes = tuple(axis for axis in range(4) if axis != seen[name].axis + 1)
            changed[name].append((after[name] != before[name]).any(axis=axes))
    lines = np.arange(size[along - 1])[:, None]
    for name in compared:
        noticed = np.array(changed[name])
        expected = (lines >= seen[name].low) & (lines <= seen[name].high)
        if config.attention == "bam":  # dilated kernels leave lines out
            noticed = (
                np.logical_or.accumulate(noticed) & np.logical_or.accumulate(noticed[::-1])[::-1]
            )
        assert (noticed == expected).all(), name


@pytest.mark.parametrize(
    ("name", "field"), [("resnet18", 435), ("resnet34", 899), ("resnet20", 81)]
)
def test_receptive_fields_of_networks(name, field):
    """1 + the sum of (kernel - 1) x the strides before it, along the main path."""
    config = preset(name)
    kernels = [(7, 2), (3, 2)] if config.stem_pool else [(3, 1)]
    kernels += [each for block in config.blocks() for each in ((3, block.stride[0]), (3, 1))]
    total, jump = 1, 1
    for kernel, stride in kernels:
        total, jump = total + (kernel - 1) * jump, jump * stride
    last = f"stages.{len(config.widths) - 1}.{config.depths[-1] - 1}"
    assert receptive_fields(graph(config, (64, 64)))[last] == (total, total) == (field, field)


def test_how_the_receptive_field_is_told():
    assert "435 × 435, more than the image has" in text(preset("resnet18"))
    told = "the whole image, through the attention; the convolutions alone would see 435 × 435"
    assert told in text(preset("se-resnet18"), width=160)


@pytest.mark.parametrize(("config", "size"), WHOLE, ids=name_of)
def test_attention_sees_the_whole_image(config, size):
    assert receptive_fields(graph(config, size))["output"] == (None, None)


# Facts.


@pytest.mark.parametrize("reach", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_same_padding_is_that_of_jax(jax, reach, stride):
    for size in range(reach, 14):
        assert [same_padding(size, reach, stride)] == jax.lax.padtype_to_pads(
            (size,), (reach,), (stride,), "SAME"
        )


@pytest.mark.parametrize(("stride", "size", "rows", "cols"), [
    (1, (32, 32), "(1, 1)", "(1, 1)"), (1, (33, 31), "(1, 1)", "(1, 1)"), (2, (33, 31), "(1, 1)", "(1, 1)"),
    (2, (32, 32), "(0, 1)", "(0, 1)"), (2, (32, 31), "(0, 1)", "(1, 1)"), (2, (31, 32), "(1, 1)", "(0, 1)"),
    ((2, 1), (32, 32), "(0, 1)", "(1, 1)"), ((2, 1), (31, 32), "(1, 1)", "(1, 1)"), ((1, 2), (31, 32), "(1, 1)", "(0, 1)"),
])  # fmt: skip
def test_padding(stride, size, rows, cols):
    facts = told_facts(BlockConfig(4, 6, 3, stride), size)
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
    assert "padding.none" in told_facts(BlockConfig(4, 6, 1, 2, attention="none"))
    rows = told_facts(preset("resnet18"))["padding.many"].table[1:]
    assert rows[0] == ("stem.conv", "224 × 224", "2", "(2, 3) (2, 3)", "(3, 3) (3, 3)")
    assert [row[0] for row in rows] == [
        "stem.conv",
        "stem",
        "stages.1.0.conv1",
        "stages.2.0.conv1",
        "stages.3.0.conv1",
    ]
    assert "pooling" in told_facts(preset("resnet18"))
    assert "pooling" not in told_facts(preset("resnet20"))


def test_shortcuts():
    assert "shortcut.identity" in told_facts(BlockConfig(4, 4))
    assert (
        told_facts(BlockConfig(4, 4, 3, (2, 1)))["shortcut.projection"].values["stride"] == "2 × 1"
    )
    assert told_facts(BlockConfig(4, 6))["shortcut.projection"].values == {
        "in": 4,
        "out": 6,
        "stride": "1",
    }
    network = told_facts(preset("resnet18"))["shortcut.network"].values
    assert network == {"names": ["stages.1.0", "stages.2.0", "stages.3.0"], "others": 5}
    assert "shortcut.network.none" in told_facts(NetworkConfig(3, 2, (4,), (2,)))


@cases
def test_idle_biases_are_those_of_the_oracle(config, size):
    arrays = random_arrays(config, "float64")
    x = random_input(config, size, 3, "float64")
    shape = reference.run(config, arrays, x, training=False).output.shape
    vanishing = reference.run(
        config, arrays, x, random_cotangent(shape, "float64"), training=True
    ).vanishing
    assert {f"{name}.bias" for name in idle_biases(graph(config, size))} == vanishing
    facts = told_facts(config, size)
    softmax = any(re.search(r"conv_attn|phi", name) for name in vanishing)
    told = facts.pop("bias.idle.softmax" if softmax else "bias.idle", None)
    assert set(told.values["names"] if told else ()) == vanishing
    assert not {"bias.idle", "bias.idle.softmax"} & set(facts)
    assert ("bias.on" in facts, "bias.off" in facts) == (config.conv_bias, not config.conv_bias)


def test_norms():
    facts = told_facts(BlockConfig(4, 6, bn_eps=1e-3, bn_decay=0.99))
    values = facts["norm.all"].values
    assert (values["eps"], values["decay"], values["momentum"]) == ("1e-3", "0.99", "0.01")
    assert values["eps_defaults"] == ["PyTorch 1e-5", "Flax 1e-5"]
    assert values["decay_defaults"] == ["PyTorch 0.9"]
    own = [
        fact
        for fact in explain(BlockConfig(4, 6, attention="triplet")).facts
        if fact.key == "norm.some"
    ]
    assert [fact.values["decay"] for fact in own] == ["0.9", "0.99"]
    assert own[1].values["names"] == ["attention.cw.bn", "attention.hc.bn", "attention.hw.bn"]


def test_how_many_values_a_channel():
    assert told_facts(BLOCK, (32, 30), 4)["count.one"].values["n"] == 4 * 16 * 15
    assert told_facts(BLOCK, (2, 2), 1)["count.error"].values["names"] == [
        "bn1",
        "bn2",
        "shortcut.1",
    ]
    bam = BlockConfig(16, 16, attention="bam")
    assert told_facts(bam, (8, 8), 1)["count.error"].values["names"] == [
        "attention.channel_att.bn_1"
    ]
    values = told_facts(bam, (8, 8), 2)["count.range"].values
    assert (values["n"], values["most"], values["factor"]) == (2, 128, "2")


def test_facts_of_kinds():
    assert "(average, maximum)" in text(BlockConfig(8, 8, attention="cbam"))
    assert "3 taps at 64 channels" in text(BlockConfig(64, 64, attention="eca"))
    assert "Hidden width 4, 8, 16 and 32" in text(preset("se-resnet18"))
    mhsa = BlockConfig(8, 8, attention="mhsa", attention_options={"size": (6, 5), "bias": True})
    facts = told_facts(mhsa)
    assert facts["size.fixed"].values == {"maps": ["6 × 5"], "image": "6 × 5"}
    assert facts["bias.keys"].values["names"] == ["attention.qkv.bias"]
    assert "bias.keys" not in told_facts(replace(mhsa, attention_options={"size": (6, 5)}))
    assert "kind.mhsa.scaled" in facts


def test_layouts():
    rows = {
        row[0]: row[1:]
        for row in told_facts(BlockConfig(4, 6, attention="eca"))["layout"].table
        if row[0]
    }
    assert rows["bn1.running_var"] == ("running_var", "var", "moving_variance")
    assert told_facts(BLOCK)["sequence"].values["jax"] == "shortcut.layers.0.weight".replace(
        "weight", "kernel"
    )
    assert "sequence" not in told_facts(BlockConfig(4, 4))
    assert told_facts(BLOCK)["unread"].values["names"] == LAYOUTS["torch"].unread
    depthwise = BlockConfig(
        4, 6, attention="ge", attention_options={"gather": "convolution", "extent": 2}
    )
    table = told_facts(depthwise)["layout"].table
    below = table[[row[0] for row in table].index("attention.gather.conv1.weight") + 1]
    assert below[1:] == ("(out in row col)", "(row col in out)", "(row col out in)")


# Code.


@pytest.mark.parametrize("framework", LAYOUTS)
def test_every_line_of_every_forward_has_its_operations(framework):
    for name, lines in source.LINES.items():
        texts = source.forward_lines(framework, name)
        assert len(texts) == len(lines), name
        for text, entries in zip(texts, lines, strict=True):
            called = set(re.findall(r"self\.(\w+)\(", text))
            named = {entry.split(".")[0] for entry in entries}
            assert {call for call in called if not call.startswith("_")} <= named | {"scale", "children"}, text
            for function in (
                "relu",
                "sigmoid",
                "softmax",
                "maximum",
                "average",
                "concatenate",
                "hard_swish",
            ):
                if re.search(rf"(?<![\w.]){function}\(", text):
                    assert entries, text


@pytest.mark.parametrize("framework", LAYOUTS)
@short
def test_every_line_is_shown_beside_what_it_computes(framework, config, size):
    found = graph(config, size)
    shown = source.annotated(found, framework)
    lines = [(line.scope, line.number, line.text) for each in shown.values() for line in each]
    for scope, name in source.scopes(config).items():
        texts = source.forward_lines(framework, name)
        assert sorted(number for at, number, _ in lines if at == scope) == list(
            range(len(texts))
        ), scope
        assert [text for at, _, text in sorted(lines) if at == scope] == list(texts)
    computed = set()
    for scope, name in source.scopes(config).items():
        inside = [operation for operation in found if source._within(operation, scope)]
        for part in source.computed_by(inside, scope, name, isinstance(config, NetworkConfig)):
            computed |= {operation.name for operation in part}
    assert computed == {operation.name for operation in found} - {"input"}
    if isinstance(config, BlockConfig):
        assert shown["conv1"][-1].text == "y = self.conv1(x)"
        assert shown["output"][-1].text == "return relu(y)"


@executed
def test_lines_compute_what_the_table_says(config, size, one_thread, monkeypatch):
    """Stages are recorded while a line of each forward method on the way to them runs: is it said
    to compute them?
    """
    import pytorch_impl
    from pytorch_impl.bridge.recorder import trace as traced

    methods, seen = {}, []
    put = Recorder._put

    def watched(self, name, *rest):
        frame, stage = sys._getframe(1), name
        while frame is not None:
            owner = frame.f_locals.get("self")
            of = type(owner).__name__
            if frame.f_code.co_name == "forward" and of in source.LINES:
                seen.append((stage, self.names[id(owner)], of, frame.f_lineno, frame.f_code))
            frame = frame.f_back
        put(self, name, *rest)

    monkeypatch.setattr(Recorder, "_put", watched)
    model = (
        pytorch_impl.ResidualBlockWithAttention.from_config(config)
        if isinstance(config, BlockConfig)
        else pytorch_impl.ResidualAttentionNetwork(config)
    )
    traced(
        model,
        random_input(config, size, 2, "float32"),
        np.ones,
        training=False,
        last="output" if isinstance(config, BlockConfig) else "classifier",
    )
    checked = 0
    for stage, scope, of, number, code in seen:
        if stage.endswith("input") or re.search(r"(^|\.)(sum|input \d)$", stage):
            continue  # seen only on their way into the next function
        if code not in methods:
            with open(code.co_filename) as file:
                methods[code] = file.read().splitlines()
        line = source.forward_lines("torch", of)
        running = methods[code][number - 1].strip()
        places = [place for place, text in enumerate(line) if text.strip() == running]
        path = source.plain_name(stage).removeprefix(scope).lstrip(".")
        path = "output" if of == source.BLOCK and not path else path
        if running.startswith("return") and any(
            {"", "output"} & set(source.LINES[of][place]) for place in places
        ):
            continue  # the last function's output is the module's, and is called after it a moment later
        assert any(
            source._names(entry, path) for place in places for entry in source.LINES[of][place]
        ), (stage, of, running)
        checked += 1
    assert checked >= 5


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
    told = [name for step in steps for name in step.get("operations", [step["name"]])]
    assert told == [operation.name for operation in graph(config, (9, 8))]
    assert steps[1]["code"][-1] == "y = self.conv(x)"
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


@pytest.mark.parametrize(("options", "message"), [
    (("--size", "32"), "--size: expected HEIGHTxWIDTH"), (("--lang", "de"), "--lang: expected one of en, zh, got 'de'"),
    (("--code", "mxnet"), "--code: expected one of torch, jax, tf, got 'mxnet'"),
    (("--dtype", "int8"), "--dtype: expected one of float16, float32, float64, got 'int8'"),
    (("--config", '{"model": "ResidualBlockWithAttention", "in_channels": 4, "out_channels": 4, "attention": "mhsa", '
      '"attention_options": {"size": [6, 5]}}', "--size", "8x8"),
     "--size: 8x8 gives attention a map of 8 x 8, but it was made for 6 x 5 by its option size; "
     "images of 6x5 fit"),
    (("--config", '{"model": "ResidualBlockWithAttention", "in_channels": 4, "out_channels": 4, "attention": "simam"}',
      "--size", "1x1"), "simam: expected maps of 2 or more positions, got 1 x 1"),
    (("--config", '{"model": "ResidualBlockWithAttention", "in_channels": 4, "out_channels": 4, "attention": "nonlocal", '
      '"attention_options": {"subsample": true}}', "--size", "1x9"),
     "nonlocal with subsample: expected 2 or more along each axis, got 1 x 9"),
    (("--naming", "torchvision"), "--naming: names what is in a file"),
])  # fmt: skip
def test_errors(options, message):
    result = run("explain", *options)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


def test_an_own_kind_is_told_as_one_operation():
    register_attention("own", torch=object)
    shown = text(BlockConfig(4, 4, attention="own"), code="torch")
    assert "attention: attention own" in shown
    assert "own is a kind of your own" in shown
