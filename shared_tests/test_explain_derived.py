"""What `resattn explain` derives: the code beside each operation, memory, receptive fields."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from resattn.checking.draws import random_arrays, random_input
from resattn.explaining.analysis import (
    find_sights,
    list_kept,
    margins,
    receptive_fields,
    training_numbers,
)
from resattn.explaining.code.alignment import align, align_package
from resattn.explaining.code.source import ROOT, Package, package_of
from resattn.oracle import evaluation as reference
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from shared_tests.published_cases import PUBLISHED
from weights import BlockConfig, NetworkConfig, preset, register_attention
from weights.frameworks import FRAMEWORKS
from weights.graph import graph
from weights.parameters import convolution
from weights.stages import Recorder

CASES = [*ATTENTION_VARIANTS, *REPRESENTATIVE, *NETWORKS, *PUBLISHED.values()]
cases = pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)
# What a framework is run with.
executed = pytest.mark.parametrize(
    ("config", "size"),
    [*ATTENTION_VARIANTS, *REPRESENTATIVE[:3], *NETWORKS, *PUBLISHED.values()],
    ids=name_of,
)
frameworks = pytest.mark.parametrize("framework", FRAMEWORKS)
BLOCK, SIZE = BlockConfig(4, 6, 3, 2), (9, 8)


@pytest.fixture
def one_thread(torch):
    """Small tensors: several threads would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


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
                idle = text.startswith("for ") or "self.drop" in text  # training alone drops
                if re.search(rf"self\.\w+\(|{function}", text) and not idle:
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
    line = "logits = logits if self.scale == 1 else logits * self.scale"
    assert (line, ["softmax input"]) in scaled
    assert ("weights = softmax(logits)", ["softmax"]) in scaled


@pytest.mark.parametrize(("fusion", "held"), [("add", "mlp_add"), ("scale", "mlp_scale")])
def test_modules_that_do_not_run_are_not_shown(fusion, held):
    config = BlockConfig(4, 6, attention="gc", attention_options={"fusion": fusion})
    assert align(graph(config, SIZE), "torch").classes == {
        "": "ResidualBlockWithAttention",
        "attention": "GlobalContext",
        f"attention.{held}": "ContextTransform",
    }


# Lines and what runs.


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
            ours = "pytorch_impl" in frame.f_code.co_filename
            if frame.f_code.co_name == "forward" and owner is not None and ours:
                seen.append((self._newest[0], owner, frame.f_lineno))
            frame = frame.f_back

    monkeypatch.setattr(Recorder, "_put", watch)
    is_block = isinstance(config, BlockConfig)
    model = (
        pytorch_impl.build_block(config)
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


# Memory.


def copies(found, batch):
    """What PyTorch also keeps: padded copies (eca, blur, SAME maxima), what it reflects, filters,
    means and deviations (layer and group norms).
    """
    count = sum(2 * batch for operation in found if operation.kind == "layer_norm")
    groups = [each.settings["groups"] for each in found if each.kind == "group_norm"]
    count += sum(2 * batch * each for each in groups)
    for operation in found:
        if operation.kind == "blur_pool":
            channels, rows, cols = (x.size for x in found[operation.inputs[0]].shape)
            count += batch * channels * (rows + 2) * (cols + 2) + 9
            kept = operation.inputs[0] in list_kept(found)
            count += 0 if kept else batch * channels * rows * cols
        if operation.kind == "max_pool" and getattr(found.config, "stem_pool", "") == "max_same":
            channels, rows, cols = (x.size for x in found[operation.inputs[0]].shape)
            sides = [sum(margins(operation, axis)) for axis in (1, 2)]
            count += batch * channels * (rows + sides[0]) * (cols + sides[1])
    convs = [operation for operation in found if operation.kind == "convolution_1d"]
    return count + sum(batch * 2 * (operation.settings["kernel"][0] // 2) for operation in convs)


@executed
def test_what_backward_reads_is_what_pytorch_keeps(config, size, one_thread):
    import pytorch_impl

    config = replace(config, drop_path=0.0)  # random factors are no operations
    config = config if isinstance(config, BlockConfig) else replace(config, dropout=0.0)
    model = (
        pytorch_impl.build_block(config)
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
    extra = sum(seen.values()) - batch * training_numbers(found) - copies(found, batch)
    # Matrix products of several axes read copies in another order, at most of queries and keys.
    queries = [
        operation.numbers
        for operation in found
        if operation.kind == "head_part" and "value" not in operation.name
    ]
    assert 0 <= extra <= batch * sum(queries)
    assert y.grad_fn is not None


# Receptive fields.


def positive(config):
    """Weights with which every change of the image reaches the end: no relu shuts it off."""
    return {
        name: np.abs(array) * 0.2 + 0.01 for name, array in random_arrays(config, "float64").items()
    }


PUBLISHED_LOCAL = [
    (replace(config, attention="none", attention_options=None), size)
    for config, size in PUBLISHED.values()
    if config.norm == "batch"
]
LOCAL = [
    (BlockConfig(2, 3, 3, 2, attention="none"), (13, 12)),
    (BlockConfig(2, 2, (5, 3), attention="none"), (9, 14)),
    (BlockConfig(2, 3, 3, (2, 1), attention="none"), (10, 9)),
    (BlockConfig(2, 3, 1, 3, attention="none"), (10, 9)),
    (BlockConfig(2, 3, 7, 4, attention="none"), (30, 19)),
    (
        NetworkConfig(
            1,
            2,
            (2, 3),
            (1, 2),
            stem_kernel_size=7,
            stem_stride=2,
            stem_pool=True,
            attention="none",
        ),
        (40, 33),
    ),
    *PUBLISHED_LOCAL,
    *(
        (replace(config, out_channels=3), (17, 16))
        for config, _ in ATTENTION_VARIANTS
        if config.attention == "ge" and config.attention_options.get("extent")
        if not config.attention_options.get("mlp")
    ),
]
WHOLE = [case for case in ATTENTION_VARIANTS if case[0].attention not in ("none", "ge")]


@pytest.mark.parametrize(("config", "size"), LOCAL + WHOLE, ids=name_of)
@pytest.mark.parametrize("along", [1, 2], ids=["rows", "cols"])
def test_receptive_fields_against_changed_images(config, size, along):
    """Changes every row (or column) of the image in turn, and looks which outputs change."""
    arrays, image = positive(config), np.abs(random_input(config, size, 1, "float64"))
    found = graph(config, size)
    seen = {name: pair[along - 1] for name, pair in find_sights(found).items()}

    def values(x):
        state = reference.stages(config, arrays, x, training=False)
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
        # Dilated kernels leave lines out, and so do 1x1 kernels with a stride.
        if config.attention == "bam" or config in [each for each, _ in PUBLISHED_LOCAL]:
            noticed = (
                np.logical_or.accumulate(noticed) & np.logical_or.accumulate(noticed[::-1])[::-1]
            )
        assert (noticed == expected).all(), name


@pytest.mark.parametrize(
    ("name", "field"), [("resnet18", 435), ("resnet34", 899), ("resnet20", 81), ("resnet50", 427)]
)
def test_receptive_fields_of_networks(name, field):
    """1 + the sum of (kernel - 1) x the strides before it, along the main path."""
    config = preset(name)
    kernels = [(7, 2), (3, 2)] if config.stem_pool else [(3, 1)]
    second = [] if config.form == "bottleneck" else [(3, 1)]
    for block in config.blocks():
        kernels += [(3, block.stride[0]), *second]
    total, jump = 1, 1
    for kernel, stride in kernels:
        total, jump = total + (kernel - 1) * jump, jump * stride
    last = f"stages.{len(config.widths) - 1}.{config.depths[-1] - 1}"
    assert receptive_fields(graph(config, (64, 64)))[last] == (total, total) == (field, field)


@pytest.mark.parametrize(("config", "size"), WHOLE, ids=name_of)
def test_attention_sees_the_whole_image(config, size):
    assert receptive_fields(graph(config, size))["output"] == (None, None)
