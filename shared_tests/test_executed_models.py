"""Models as people write them, explained and drawn: what is expected is written down by hand."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import resattn
from resattn.drawing import terminal
from resattn.drawing.mermaid import mermaid
from resattn.drawing.pictures import scene_of_reading
from resattn.drawing.svg import svg
from resattn.explaining.executed.failures import ShapeChange
from resattn.reading.blocks import cut_block, find_blocks
from resattn.reading.executed import execute
from resattn.reading.models import read_model
from resattn.reading.sources import read_line
from shared_tests.handmade_cases import FILES, make_net, make_sketch
from shared_tests.test_draw import check_apart, read_mermaid, read_svg, read_terminal
from weights.errors import ArgumentError

SIZE = (16, 12)


@cache
def sketch(framework: str, stride: int, second: int | None = None) -> Any:
    return read_model(make_sketch(framework, stride, second), SIZE)


@cache
def net(framework: str) -> Any:
    return read_model(make_net(framework), (32, 32))


# name, kind, shape, trained parameters, running statistics, multiply-adds
MAIN = [
    ("input", "input", (32, 16, 12), 0, 0, 0),
    ("conv_a", "convolution", (64, 16, 12), 64 * 32 * 9 + 64, 0, 64 * 16 * 12 * 32 * 9),
    ("norm_a", "batch_norm", (64, 16, 12), 128, 128, 0),
    ("relu", "relu", (64, 16, 12), 0, 0, 0),
    ("conv_b", "convolution", (64, 16, 12), 64 * 64 * 9 + 64, 0, 64 * 16 * 12 * 64 * 9),
    ("norm_b", "batch_norm", (64, 16, 12), 128, 128, 0),
    ("gate.average", "average", (64,), 0, 0, 0),
    ("gate.squeeze", "linear", (4,), 4 * 64 + 4, 0, 4 * 64),
    ("gate.relu", "relu", (4,), 0, 0, 0),
    ("gate.excite", "linear", (64,), 64 * 4 + 64, 0, 64 * 4),
    ("gate.sigmoid", "sigmoid", (64,), 0, 0, 0),
    ("gate.product", "product", (64, 16, 12), 0, 0, 0),
    ("skip.0", "convolution", (64, 16, 12), 64 * 32 + 64, 0, 64 * 16 * 12 * 32),
    ("skip.1", "batch_norm", (64, 16, 12), 128, 128, 0),
]
END = [("sum", "sum", (64, 16, 12), 0, 0, 0), ("relu 2", "relu", (64, 16, 12), 0, 0, 0)]


def plain(name: str) -> str:
    """A name as PyTorch has it. Keras says which layer an activation is given to."""
    name = name.replace("skip.layers.", "skip.")
    return name.replace("squeeze.relu", "relu").replace("excite.sigmoid", "sigmoid")


def summarize_graph(found: Any) -> list[tuple[Any, ...]]:
    return [
        (
            plain(each.name),
            each.kind,
            tuple(extent.size for extent in each.shape),
            each.trainable,
            each.statistics,
            each.multiply_adds,
        )
        for each in found
    ]


def test_the_graph_of_a_block(framework):
    found = execute(sketch(framework, 1))
    assert summarize_graph(found) == [*MAIN, *END]
    assert found["conv_a"].settings == {
        "kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": 1, "groups": 1,
        "bias": True,
    }  # fmt: skip
    assert found["norm_a"].settings == {"eps": 1e-5}
    assert found.failure is None
    assert found.unused == ()


def test_the_paths_of_a_block(framework):
    (block,) = find_blocks(execute(sketch(framework, 2, 1)))
    assert (block.fork, block.join, block.end) == ("input", "sum", "relu 2")
    assert [plain(name) for name in block.main] == [name for name, *_ in MAIN[1:12]]
    assert [plain(name) for name in block.shortcut] == ["skip.0", "skip.1"]
    assert [plain(name) for name in block.side] == [name for name, *_ in MAIN[6:12]]
    assert block.side_module == "gate"


def test_places_in_the_code(framework):
    """Each step with the line of the user's own code."""
    explained = resattn.explain(sketch(framework, 1))
    lines = {plain(entry.operation.name): entry.lines for entry in explained.entries}
    called = {"conv_a": "conv_a(", "gate.excite": "excite(", "gate.product": "*"}
    for name, text in called.items():
        (line,) = lines[name]
        place, _, code = line.text.partition("  ")
        file, _, number = place.partition(":")
        assert file == f"{FILES[framework]}.py"
        assert text in code
        assert code == read_line(explained.graph.origins[explained.graph.output].file, int(number))
    shown = "\n".join(text for text, _ in explained.lines(100))
    assert f"│ {FILES[framework]}.py:" in shown


def test_the_reasons_of_a_block(framework):
    explained = resattn.explain(sketch(framework, 2, 1))
    reasons = {plain(entry.operation.name): entry.reason for entry in explained.entries}
    parts = {plain(entry.operation.name): entry.part for entry in explained.entries}
    assert reasons == {
        "input": "input",
        "conv_a": "conv1.strided",
        "norm_a": "norm",
        "relu": "nonlinear",
        "conv_b": "conv2",
        "norm_b": "last_norm",
        "gate.average": "squeeze",
        "gate.squeeze": "excite.first",
        "gate.relu": "nonlinear",
        "gate.excite": "excite.second",
        "gate.sigmoid": "gate",
        "gate.product": "gate.channels",
        "skip.0": "shortcut.0.strided",
        "skip.1": "shortcut.1",
        "sum": "sum.projection",
        "relu 2": "output",
    }
    assert [*dict.fromkeys(parts.values())] == ["input", "main", "gates", "shortcut", "join"]


# A model that fails


def test_why_the_sketch_fails(framework):
    """At stride 2 its main path shrinks by 4 and its shortcut by 2."""
    explained = resattn.explain(sketch(framework, 2))
    failure = explained.failure
    assert failure is not None
    assert failure.fork == "input"
    assert [(path.role, path.start, path.shape) for path in failure.paths] == [
        ("main", (32, 16, 12), (64, 4, 3)),
        ("shortcut", (32, 16, 12), (64, 8, 6)),
    ]
    main, shortcut = failure.paths
    assert main.changes == (
        ShapeChange("conv_a", "convolution", (2, 2), (32, 16, 12), (64, 8, 6)),
        ShapeChange("conv_b", "convolution", (2, 2), (64, 8, 6), (64, 4, 3)),
    )
    assert [plain(each.name) for each in shortcut.changes] == ["skip.0"]
    assert (main.shrinks, shortcut.shrinks) == ((4, 4), (2, 2))
    assert failure.at_fault == "conv_b"
    assert explained.graph.operations[-1].kind == "failure"
    assert "peak_bytes" not in explained.totals()


SAID = {
    "en": (
        "The model does not run to its end.",
        "Here the addition of values of the shapes (64, 4, 3) and (64, 8, 6) fails.",
        "They differ in the rows (4 and 8) and columns (3 and 6).",
        "The main path: conv_a (stride 2) makes (32, 16, 12) into (64, 8, 6), conv_b (stride 2) "
        "makes (64, 8, 6) into (64, 4, 3).",
        "So the two paths shrink by different factors: the main path by 4, the shortcut by 2.",
        "With stride 1 in conv_b both paths would shrink alike",
    ),
    "zh": (
        "这个模型不能运行到底。",
        "相加这一步失败：两个输入的形状为 (64, 4, 3) 和 (64, 8, 6)（通道，行，列），不匹配。",
        "主路径上：conv_a（步幅 2）把 (32, 16, 12) 变为 (64, 8, 6)，conv_b（步幅 2）把 (64, 8, 6) "
        "变为 (64, 4, 3)。",
        "因此两路缩小的倍数不同：主路径缩小到 1/4，捷径缩小到 1/2。",
        "若 conv_b 的步幅为 1，两路就会缩小得一样多",
    ),
}


@pytest.mark.parametrize("language", SAID)
def test_what_is_said_of_the_failure(framework, language):
    explained = resattn.explain(sketch(framework, 2))
    shown = "\n".join(line for line, _ in explained.lines(200, language))
    for sentence in SAID[language]:
        assert sentence in shown
    failure = explained.graph.failure
    place = f"{FILES[framework]}.py:{failure.line}  {read_line(failure.file, failure.line)}"
    assert shown.count(place) >= 1
    assert "+" in place


def test_a_failure_in_json(framework):
    values = json.loads(json.dumps(resattn.explain(sketch(framework, 2)).to_dict("en")))
    failure = values["failure"]
    assert (failure["operation"], failure["shapes"]) == ("sum", [[64, 4, 3], [64, 8, 6]])
    assert [(path["role"], path["shrinks"]) for path in failure["paths"]] == [
        ("main", ["4", "4"]),
        ("shortcut", ["2", "2"]),
    ]
    assert Path(failure["file"]).name == f"{FILES[framework]}.py"
    assert failure["text"][0].startswith("Here the addition")
    steps = {plain(step["name"]): step for step in values["steps"]}
    assert steps["conv_a"]["module"] == "conv_a"
    assert steps["conv_a"]["line"] > 0
    assert {each["role"] for each in steps["conv_a"]["held"]} == {
        "convolution kernel",
        "convolution bias",
    }
    assert resattn.explain(sketch(framework, 1)).to_dict()["failure"] is None


def test_channels_that_differ(torch):
    """An identity shortcut with too few channels."""

    class Narrow(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 6, 3, padding=1)

        def forward(self, x):
            return torch.relu(self.conv(x) + x)

    explained = resattn.explain(read_model(Narrow(), (8, 6)))
    shown = "\n".join(line for line, _ in explained.lines(200))
    assert "They differ in the channels (6 and 4)." in shown
    assert "The shortcut: keeps its shape (4, 8, 6)." in shown
    assert "shrink" not in shown
    assert explained.failure.at_fault == ""


def test_a_failure_of_one_value(torch):
    """A linear layer for other images: its shapes are said, and no paths."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.Flatten(), torch.nn.Linear(36, 2)
    )
    explained = resattn.explain(read_model(model, (4, 3)))
    assert explained.failure.paths == ()
    shown = "\n".join(line for line, _ in explained.lines(200))
    assert "the matrix product" in shown
    assert check_drawn(scene_of_reading(explained.graph)) == "wrong"


# Pictures


def check_drawn(shown: Any) -> str:
    """Every format holds the nodes and the edges, and nothing covers anything. Gives the form of
    the last node.
    """
    check_apart(shown)
    nodes = [node.name for node in shown.nodes]
    edges = [(edge.source, edge.target) for edge in shown.edges]
    assert read_svg(svg(shown)) == (nodes, edges)
    assert read_mermaid(mermaid(shown)) == (nodes, edges)
    for ascii_only in (False, True):
        lines = terminal.strip_colours(terminal.lines(shown, ascii_only=ascii_only)).splitlines()
        assert max(map(len, lines)) <= 80
        if shown.output:
            read = read_terminal(shown, ascii_only)
            assert read == [(name, {a for a, b in edges if b == name}) for name in nodes]
    return str(shown.nodes[-1].form)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_is_drawn(framework, stride):
    shown = scene_of_reading(sketch(framework, stride, 1))
    assert check_drawn(shown) == "activation"
    assert [plain(name) for name in shown.aside] == ["skip.0", "skip.1"]
    assert [plain(name) for name in shown.trunk] == [
        "input", "conv_a", "norm_a", "relu", "conv_b", "norm_b", "gate.product", "sum", "relu 2",
    ]  # fmt: skip
    (frame,) = shown.frames
    assert (frame.title, len(frame.members)) == ("attention: gate", 6)
    assert shown.output == f"(N, 64, {16 // stride}, {12 // stride})"


def test_a_failure_is_drawn(framework):
    """In red, with both shapes; nothing comes out."""
    shown = scene_of_reading(sketch(framework, 2))
    assert check_drawn(shown) == "wrong"
    last = shown.nodes[-1]
    assert last.lines == ("sum fails", "(N, 64, 4, 3) and (N, 64, 8, 6)")
    assert shown.output == ""
    assert ">out<" not in svg(shown)
    assert 'data-form="wrong"' in svg(shown)
    failure = sketch(framework, 2).failure
    assert shown.notes == (
        f"fails at line {failure.line}:",
        read_line(failure.file, failure.line),
        "main path shrinks by 4",
        "shortcut shrinks by 2",
        "conv_b should have stride 1",
    )
    assert "✗" in terminal.strip_colours(terminal.lines(shown))
    assert ":::wrong" in mermaid(shown)


def test_a_network_is_drawn(framework):
    """Its blocks are boxes."""
    shown = scene_of_reading(net(framework))
    check_drawn(shown)
    blocks = [node for node in shown.nodes if node.form == "block"]
    assert [node.lines[2:] for node in blocks] == [
        ("3×3, 32 → 32", "attention (gate), identity shortcut"),
        ("3×3, 32 → 64, stride 2", "attention (gate), projected shortcut"),
    ]
    assert [node.shape for node in blocks] == ["", "(N, 64, 16, 16)"]
    assert [node.shortcut for node in blocks] == ["identity", "projected"]
    forms = ["input", "convolution", "normalization", "activation", "block", "block"]
    assert [node.form for node in shown.nodes] == [*forms, "average", "convolution"]


def test_one_block_of_a_network(framework):
    found = execute(net(framework))
    name = find_blocks(found)[1].name
    alone = cut_block(found, name)
    assert [plain(each) for each, *_ in summarize_graph(alone)][:2] == ["input", f"{name}.conv_a"]
    shown = resattn.draw(net(framework), block=name)
    assert shown.nodes[1].lines[0] == "conv_a"
    assert len(shown.aside) == 2
    check_drawn(shown)
    with pytest.raises(ArgumentError, match=r"block: .* has no block 'nobody'; expected one of "):
        resattn.draw(net(framework), block="nobody")


def test_equal_blocks_are_one_node(torch):
    from pytorch_impl import ResidualAttentionNetwork
    from weights import NetworkConfig

    model = ResidualAttentionNetwork(NetworkConfig(3, 4, (8, 12), (3, 2), attention="se"))
    reading = read_model(model, (16, 16))
    shown = scene_of_reading(reading)
    assert [(node.lines[0], node.covers) for node in shown.nodes if node.covers] == [
        ("3 × block", ("stages.0.0", "stages.0.1", "stages.0.2")),
        ("block", ("stages.1.0",)),
        ("block", ("stages.1.1",)),
    ]
    assert [frame.title for frame in shown.frames] == ["stages.0", "stages.1"]
    folds = [each for each in resattn.explain(reading).entries if hasattr(each, "like")]
    assert [(fold.name, fold.like) for fold in folds] == [
        ("stages.0.1", "stages.0.0"),
        ("stages.0.2", "stages.0.0"),
        ("stages.1.1", "stages.0.0"),
    ]


def test_blocks_that_take_turns_are_one_node(torch):
    """As in a transformer: here narrow and wide ones."""
    nn = torch.nn

    class Residual(nn.Module):
        def __init__(self, kernel):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, kernel, padding=kernel // 2)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            return x + self.norm(self.conv(x))

    model = nn.Sequential(*(Residual(kernel) for kernel in (1, 3, 1, 3, 1, 3, 5)))
    shown = scene_of_reading(read_model(model, (6, 5)))
    check_drawn(shown)
    assert [(node.lines, len(node.covers)) for node in shown.nodes[1:]] == [
        (
            (
                "3 × 2 blocks",
                "0 → 5",
                "1×1, 4 → 4",
                "identity shortcut",
                "3×3, 4 → 4",
                "identity shortcut",
            ),
            6,
        ),
        (("block", "6", "5×5, 4 → 4", "identity shortcut"), 1),
    ]


def test_a_large_model_is_drawn_by_its_modules(torch):
    """Dense layers, each of all layers before it: too many edges to be read."""
    nn = torch.nn

    class Dense(nn.Module):
        def __init__(self, count):
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(4 * n + 4, 4, 1) for n in range(count))

        def forward(self, x):
            maps = [x]
            for layer in self.layers:
                maps.append(layer(torch.cat(maps, 1)))
            return torch.cat(maps, 1)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), Dense(4), nn.Conv2d(20, 4, 1), Dense(14))
    found = execute(read_model(model, (3, 2)))
    shown = scene_of_reading(found)
    check_drawn(shown)
    assert [(node.name, node.lines[:2]) for node in shown.nodes] == [
        ("input", ("x",)),
        ("0", ("0", "1×1 conv, 3 → 4")),
        ("1", ("1", "9 operations")),
        ("2", ("2", "1×1 conv, 20 → 4")),
        ("3", ("3", "29 operations")),
    ]


@pytest.fixture
def branches(torch):
    """No residual block, and an operation that no table knows."""

    class Branches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.left = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.right = torch.nn.Conv2d(8, 6, 5, padding=(2, 1))
            self.spare = torch.nn.Conv2d(2, 2, 1)
            self.head = torch.nn.Linear(14, 10)

        def forward(self, x):
            x = torch.nn.functional.gelu(self.stem(x))
            right = torch.cumsum(torch.nn.functional.pad(self.right(x), (1, 1)), 2)
            y = torch.tanh(torch.cat([self.left(x), right], 1))
            return self.head(torch.nn.functional.avg_pool2d(y, 3, 2, 1).mean((2, 3)))

    return read_model(Branches(), (8, 6))


def test_any_other_model(branches):
    found = execute(branches)
    assert [(each.kind, each.settings) for each in found if each.kind != "convolution"] == [
        ("input", {}),
        ("function", {"function": "gelu"}),
        ("pad", {"before": (0, 1), "after": (0, 1)}),
        ("unknown", {"primitive": "cumsum"}),
        ("concatenate", {"axis": "channels"}),
        ("function", {"function": "tanh"}),
        (
            "average_pool",
            {
                "kernel": (3, 3),
                "stride": (2, 2),
                "padding": (1, 1),
                "counts_padding": True,
                "after": (1, 1),
            },
        ),
        ("average", {"axes": ("rows", "cols")}),
        ("linear", {"bias": True}),
    ]
    assert found["left"].multiply_adds == 8 * 8 * 6 * 9
    assert [each.role for each in found["left"].parameters] == [
        "depthwise kernel",
        "convolution bias",
    ]
    assert found.unused == ("spare.weight", "spare.bias")
    assert find_blocks(found) == ()
    shown = resattn.draw(branches)
    assert check_drawn(shown) == "convolution"
    assert [node.lines for node in shown.nodes if node.name == "cumsum"] == [
        ("cumsum", "not known here")
    ]


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        (
            "en",
            (
                "cumsum, an operation that is not known here",
                "arrays that no step uses",
                "spare.weight and spare.bias",
                "3×3 average pooling, stride 2, padding 1, zeros around the map count",
            ),
        ),
        ("zh", ("cumsum（此处不认识的运算）", "没有任何一步用到的数组", "周围补的零也计入平均")),
    ],
)
def test_what_is_said_of_any_other_model(branches, language, sentences):
    shown = "\n".join(line for line, _ in resattn.explain(branches).lines(200, language))
    for sentence in sentences:
        assert sentence in shown


def test_poolings_without_a_stride(torch):
    """PyTorch's stride is then the kernel."""
    functional = torch.nn.functional

    class Pooled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return functional.avg_pool2d(functional.max_pool2d(self.conv(x), 2), 3)

    found = execute(read_model(Pooled(), (12, 6)))
    kernels = [(each.kind, each.settings["stride"]) for each in found.operations[2:]]
    assert kernels == [("max_pool", (2, 2)), ("average_pool", (3, 3))]


def test_a_module_that_is_used_twice(torch):
    """Its parameters are counted once."""

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 4, 1)
            self.relu = torch.nn.ReLU()

        def forward(self, x):
            return self.relu(self.conv(self.relu(self.conv(x))))

    found = execute(read_model(Twice(), (3, 2)))
    assert [each.name for each in found] == ["input", "conv", "relu", "conv 2", "relu 2"]
    assert [each.trainable for each in found] == [0, 20, 0, 0, 0]
    assert [each.multiply_adds for each in found] == [0, 96, 0, 96, 0]


# The entry points


def test_what_a_reading_is_not_asked_for(torch):
    reading = sketch("torch", 1)
    with pytest.raises(ArgumentError, match=r"size: .* was read, for images of 16 x 12; read it"):
        resattn.explain(reading, (8, 8))
    with pytest.raises(ArgumentError, match="code: is for a config"):
        resattn.explain(reading, code="torch")
    with pytest.raises(ArgumentError, match="size: is for a config"):
        resattn.draw(reading, size=(8, 8))
    with pytest.raises(ArgumentError, match="--dtype: expected one of"):
        resattn.explain(reading, dtype="int8")


@pytest.mark.parametrize("suffix", ["svg", "mmd", "md"])
def test_pictures_are_written(torch, tmp_path, suffix):
    target = tmp_path / f"picture.{suffix}"
    shown = resattn.draw(sketch("torch", 2), target)
    assert "sum fails" in target.read_text()
    assert shown.title == "ResidualBlock"
