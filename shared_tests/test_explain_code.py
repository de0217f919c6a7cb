"""The lines of code that `resattn explain --code` shows: every line, beside what it computes."""

from __future__ import annotations

import re
import shutil
import sys

import numpy as np
import pytest

from resattn.checking.draws import random_input
from resattn.explaining.code.alignment import align, align_package
from resattn.explaining.code.source import ROOT, Package, package_of
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from weights import BlockConfig, register_attention
from weights.frameworks import FRAMEWORKS
from weights.graph import graph
from weights.parameters import convolution
from weights.stages import Recorder

CASES = ATTENTION_VARIANTS + REPRESENTATIVE + NETWORKS
cases = pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
# What a framework is run with.
executed = pytest.mark.parametrize(
    ("config", "size"), [*ATTENTION_VARIANTS, *REPRESENTATIVE[:3], *NETWORKS], ids=name_of
)
frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)
BLOCK, SIZE = BlockConfig(4, 6, 3, 2), (9, 8)


@frameworks
@cases
def test_every_line_is_shown_once(framework, config, size):
    found = graph(config, size)
    aligned = align(found, framework)
    shown = [
        (line.scope, line.number, line.text, name)
        for name, lines in aligned.by_operation().items()
        for line in lines
    ]
    assert sorted(each[:3] for each in shown) == sorted(
        (scope, number, text)
        for scope, texts in aligned.lines.items()
        for number, text in enumerate(texts)
    )
    assert {name for *_, name in shown} <= {operation.name for operation in found}
    for scope, number, _, name in shown:
        assert name == aligned.computed.get((scope, number), [name])[0]


@frameworks
@cases
def test_every_operation_has_the_line_that_computes_it(framework, config, size):
    found = graph(config, size)
    aligned = align(found, framework)
    assert aligned.missing == []
    outermost = [
        name for (scope, _), names in aligned.computed.items() for name in names if not scope
    ]
    assert sorted(outermost) == sorted(operation.name for operation in found if operation.inputs)
    for (scope, _), names in aligned.computed.items():
        assert all(f"{name}.".startswith((f"{scope}.", f"{scope} ")) for name in names if scope)


@frameworks
def test_every_call_computes_something_in_some_case(framework):
    calling, computing = {}, set()
    function = r"(?<![\w.])(relu|(hard_)?sigmoid|softmax|maximum|(\w+_)?average|concatenate)\("
    for config, size in CASES:
        aligned = align(graph(config, size), framework)
        for scope, texts in aligned.lines.items():
            for number, text in enumerate(texts):
                if re.search(rf"self\.\w+\(|{function}", text) and not text.startswith("for "):
                    calling[aligned.classes[scope], number] = text
        computing |= {(aligned.classes[scope], number) for scope, number in aligned.computed}
    assert [text for key, text in calling.items() if key not in computing] == []


def computed(aligned, scope="attention"):
    """The lines of a module, each with the operations that it computes, named from attention."""
    return [
        (
            text.strip(),
            [name.removeprefix("attention.") for name in aligned.computed.get((scope, number), [])],
        )
        for number, text in enumerate(aligned.lines[scope])
    ]


@frameworks
def test_lines_of_some_modules(framework):
    def lines(kind, scope="attention", **options):
        config = BlockConfig(4, 4, attention=kind, attention_options=options)
        return computed(align(graph(config, SIZE), framework), scope)

    assert lines("none") == [("return x", [])]
    twice = dict(lines("cbam", "attention.channel"))
    assert twice["y = self.fc1(x)"] == ["channel.fc1", "channel.fc1 2"]
    pooled = [names for text, names in lines("triplet") if "self.hw(" in text]
    assert pooled == [["maximum 3", "average 3", "concatenate 3", "hw.conv", "hw.bn", "hw"]]
    two = lines("triplet", spatial=False)
    assert ("return (over_rows + over_cols) / 2", ["total", "attention"]) in two
    scaled = lines("nonlocal", scale=True)
    assert ("weights = softmax(logits * self.scale)", ["softmax input", "softmax"]) in scaled


@pytest.mark.parametrize(("fusion", "held"), [("add", "mlp_add"), ("scale", "mlp_scale")])
def test_modules_that_do_not_run_are_not_shown(fusion, held):
    config = BlockConfig(4, 6, attention="gc", attention_options={"fusion": fusion})
    assert align(graph(config, SIZE), "torch").classes == {
        "": "ResidualBlockWithAttention",
        "attention": "GlobalContext",
        f"attention.{held}": "ContextTransform",
    }


# The same of what runs.


@pytest.fixture
def one_thread(torch):
    """Small tensors: several threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


@executed
def test_lines_compute_what_runs(config, size, one_thread, monkeypatch):
    """Stages are recorded while a line of each forward method on the way to them runs."""
    import pytorch_impl
    from pytorch_impl.bridge.recorder import trace

    seen = []
    put = Recorder._put

    def watch(self, name, *rest):
        put(self, name, *rest)
        frame = sys._getframe(1)
        while frame is not None:
            owner = self.names.get(id(frame.f_locals.get("self")))
            if frame.f_code.co_name == "forward" and owner is not None:
                seen.append((self._newest[0], owner, frame.f_lineno))
            frame = frame.f_back

    monkeypatch.setattr(Recorder, "_put", watch)
    is_block = isinstance(config, BlockConfig)
    model = (
        pytorch_impl.ResidualBlockWithAttention.from_config(config)
        if is_block
        else pytorch_impl.ResidualAttentionNetwork(config)
    )
    x = random_input(config, size, 2, "float32")
    trace(model, x, np.ones, training=False, last="output" if is_block else "classifier")
    found, package = graph(config, size), package_of("torch")
    aligned = align(found, "torch")
    checked = 0
    for stage, scope, number in seen:
        # What is not in the graph is renamed a moment later, when its module returns it.
        if stage in found and scope in aligned.classes:
            forward = package.forward(package.find_class(aligned.classes[scope]))
            line = forward.starts[forward.places[number]]
            # A sum is only seen on its way into the next function.
            given = re.search(r"(^|[. ])(sum|input)( \d)?$", stage)
            assert given or stage in aligned.computed[scope, line], (stage, scope, line)
            checked += not given
    assert checked >= 5


# What the derivation notices.


@pytest.fixture
def edited(tmp_path):
    """A copy of the PyTorch implementation in which a text of a file is replaced by another."""

    def edit(file, old, new):
        folder = tmp_path / "pytorch_impl"
        if not folder.exists():
            shutil.copytree(ROOT / "pytorch_impl", folder, ignore=shutil.ignore_patterns("*.pyc"))
        source = (folder / file).read_text()
        assert source.count(old) == 1, old
        (folder / file).write_text(source.replace(old, new))
        return Package(folder, FRAMEWORKS["torch"].forward)

    return edit


def test_a_line_that_is_missing_is_noticed(edited):
    package = edited("block.py", "        y = relu(y)\n", "")
    assert align_package(graph(BLOCK, SIZE), package).missing == ["relu"]


def test_another_order_is_noticed(edited):
    edited("block.py", "y = self.bn1(y)", "y = self.bn0(y)")
    edited("block.py", "y = self.bn2(y)", "y = self.bn1(y)")
    package = edited("block.py", "y = self.bn0(y)", "y = self.bn2(y)")
    assert align_package(graph(BLOCK, SIZE), package).missing == ["bn1", "bn2"]


def test_a_line_that_computes_nothing_of_the_graph_is_noticed(edited):
    new = "y = self.bn1(y)\n        y = self.bn3(\n            y\n        )\n"
    package = edited("block.py", "y = self.bn1(y)\n", new)
    aligned = align_package(graph(BLOCK, SIZE), package)
    numbers = [number for number, text in enumerate(aligned.lines[""]) if "bn3" in text]
    assert aligned.missing == []
    assert ("", numbers[0]) not in aligned.computed
    # It is shown all the same, with the next operation, and all of its lines together.
    shown = [line.number for line in aligned.by_operation()["relu"]]
    assert shown == [numbers[0], numbers[0] + 1, numbers[0] + 2, numbers[0] + 3]


def test_another_operator_is_noticed(edited):
    package = edited("attention/simam.py", "wide - average", "wide * average")
    config = BlockConfig(4, 4, attention="simam")
    assert align_package(graph(config, SIZE), package).missing == ["attention.centred"]


def test_a_new_kind_needs_no_entry(edited):
    """A kind that only the files of an implementation and its graph know."""
    own = '''
from pytorch_impl.layers import Bottleneck, Conv2d, global_average, sigmoid

class Own(nn.Module):
    def __init__(self, channels, **options):
        self.first = Bottleneck(channels, 2, **options)
        for step in range(2):
            setattr(self, f"layer{step}", Conv2d(channels, channels, **options))

    def forward(self, x):
        """Not shown."""
        y = self.first(global_average(x))
        for layer in self.children():
            y = layer(y)
        y -= x
        # Not shown either.
        return x * sigmoid(y)
'''

    def own_graph(build, x):
        y = build.within("first").bottleneck(build.global_average(x))
        y = build.convolution("layer1", build.convolution("layer0", y))
        y = build.add("sigmoid input", "difference", y, x, shape=build.shape(x))
        return build.product("", x, build.activation("sigmoid", y))

    def parameters(channels):
        widths = {"first.fc1": (4, 2), "first.fc2": (2, 4), "layer0": (4, 4), "layer1": (4, 4)}
        return tuple(each for name, width in widths.items() for each in convolution(name, *width))

    register_attention("own", parameters, torch=object, graph=own_graph)
    table, name = "attention/__init__.py", '"se": SqueezeExcite,'
    imported = "from pytorch_impl.attention.bam"
    edited(table, name, f'{name} "own": Own,')
    package = edited(table, imported, f"from pytorch_impl.attention.own import Own\n{imported}")
    (package.path / "attention" / "own.py").write_text(own)
    aligned = align_package(graph(BlockConfig(4, 4, attention="own"), SIZE), package)
    assert aligned.missing == []
    assert aligned.classes["attention"] == "Own"
    assert aligned.classes["attention.first"] == "Bottleneck"
    first = ["global_average", "first.fc1", "first.relu", "first.fc2"]
    assert computed(aligned) == [
        ("y = self.first(global_average(x))", first),
        ("for layer in self.children():", []),
        ("y = layer(y)", ["layer0", "layer1"]),
        ("y -= x", ["sigmoid input"]),
        ("return x * sigmoid(y)", ["sigmoid", "attention"]),
    ]
