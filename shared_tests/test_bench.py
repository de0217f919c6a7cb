"""`resattn bench`: what follows from timings, the order of rounds, what is shown; and that what is
measured computes the right function. Nothing here depends on how fast anything is.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from resattn.benchmarks import cases, commands, runner
from resattn.benchmarks.cases import BenchCase, BenchModel, list_cases, list_models
from resattn.benchmarks.channels import run_fresh
from resattn.benchmarks.chart import BARS, MOST, chart, save_chart
from resattn.benchmarks.commands import CommandRun
from resattn.benchmarks.documents import (
    FIGURES,
    PAGE,
    SUMMARY,
    put_between_marks,
    read_report,
)
from resattn.benchmarks.functions import prepare_function
from resattn.benchmarks.groups import (
    GROUPS,
    MEASURED_GROUPS,
    Effort,
    list_programs,
    measure_group,
)
from resattn.benchmarks.other_models import make_timm, require_library
from resattn.benchmarks.runner import BenchPlan, check_output, order_round, run_bench
from resattn.benchmarks.tables import format_ms, format_summary, format_tables
from resattn.benchmarks.timings import BenchReport, Timing, list_goals, ratio
from resattn.benchmarks.worker import Worker, serve
from resattn.checking.draws import random_arrays, random_input
from resattn.checking.problem import pose
from resattn.cli.app import app
from weights import BlockConfig, NetworkConfig, preset
from weights.errors import ArgumentError, FileError, MissingFramework
from weights.files import atomic

ROOT = Path(__file__).parent.parent
TINY = BenchModel("blocks", "tiny", BlockConfig(3, 5, 3, 2, conv_bias=False), (6, 7))
SMALL_NETWORK = BenchModel(
    "networks",
    "small",
    NetworkConfig(
        in_channels=3, classes=4, widths=(6, 8), depths=(1, 1), stem_channels=6,
        stem_kernel_size=7, stem_stride=2, stem_pool=True,
    ),
    (32, 24),
)  # fmt: skip


def timing(framework, by, *seconds, **fields):
    return Timing("blocks", "block", framework, by, seconds, work=2e9, **fields)


REPORT = BenchReport(
    {"CPU": "a CPU", "cores": "2 usable", "PyTorch": "torch 1.0", "timm": "not installed"},
    (
        Timing("peak", "product", "numpy", "product", (0.5, 0.5), work=8e9),
        Timing("peak", "product", "torch", "product", (0.25, 0.25), work=8e9),
        timing("onnxruntime", "onnxruntime", 1.0, 2.0, 3.0),
        timing("torch", "timm", missing="timm is not installed"),
        timing("torch", "plain", 2.0, 4.0, 9.0),
        timing("torch", "deploy", 1.0, 1.8, 3.0),
        timing("jax", "native", 4.0, 4.0, 4.0),
        timing("jax", "deploy", 2.0, 8.0, 12.0, batch=1),
        timing("onnxruntime", "onnxruntime", 1.0, 1.0, batch=8),
        timing("torch", "deploy", 2.0, 2.0, batch=8),
    ),
)
RUNTIME, TIMM, PLAIN, DEPLOY, NATIVE, FLAX = REPORT.timings[2:8]


def test_statistics():
    found = timing("torch", "plain", 1.0, 5.0, 2.0, 3.0, 4.0)
    assert (found.median, found.quartiles) == (3.0, (2.0, 4.0))
    assert found.rate == pytest.approx(2 / 3)
    assert timing("torch", "plain", 2.0).quartiles == (2.0, 2.0)
    assert Timing("training", "step", "torch", "plain", (1.0,)).rate is None


def test_ratios_are_of_the_same_rounds():
    """The median of 2, 2 and 3; that of the medians is 2."""
    assert ratio(PLAIN, RUNTIME) == 2
    slow = timing("torch", "plain", 2.0, 40.0, 6.0), timing("torch", "timm", 1.0, 20.0, 3.0)
    assert ratio(*slow) == 2
    assert ratio(timing("torch", "plain", 3.0, 4.0, 90.0), RUNTIME) == 3


def test_references():
    assert REPORT.reference(PLAIN, "onnxruntime") == RUNTIME
    assert REPORT.reference(FLAX, "native") == NATIVE
    assert REPORT.reference(PLAIN, "native") is None  # there is one in Flax alone
    assert REPORT.reference(PLAIN, "timm") is None  # it is missing
    assert REPORT.ratio_to(TIMM, "onnxruntime") is None
    assert REPORT.ratio_to(FLAX, "onnxruntime") == 4


def test_the_peak_is_the_best_product():
    assert REPORT.peak("cpu", "float32") == 32
    assert REPORT.share_of_peak(PLAIN) == pytest.approx(2 / 4 / 32)
    assert REPORT.peak("cuda", "float32") is None


def test_six_digits_are_kept():
    assert timing("torch", "plain", 0.0123456789).seconds == (0.0123457,)


def copied(label, framework, ours, copies, memory=None):
    fields = {"work": 1e9, "unit": "byte"}
    return (
        Timing("converter", label, framework, "plain", ours, memory=memory, **fields),
        Timing("converter", label, framework, "copy", copies, **fields),
    )


def test_goals():
    """PyTorch: the geometric mean of 1 and 2."""
    goals = {goal.words.split(",")[0]: goal for goal in list_goals(REPORT)}
    torch = goals["PyTorch deploy() / ONNX Runtime"]
    assert torch.figure == pytest.approx(2**0.5)
    assert (torch.limit, torch.met) == (1.05, False)
    assert goals["Keras deploy() / ONNX Runtime"].met is None
    copies = BenchReport({}, (
        *copied("npz to npz", "numpy", (1.0, 3.0), (0.5, 3.0), memory=300_000_000),
        *copied("npz to npz, without checksums", "numpy", (1.0, 1.0), (1.0, 1.0), memory=1),
        *copied("file to model", "torch", (4.0, 4.0), (2.0, 2.0)),
        *copied("model to file", "torch", (5.0, 5.0), (2.0, 2.0)),
        *copied("file to new model", "torch", (9.0, 9.0), (2.0, 2.0), memory=10**9),
    ))  # fmt: skip
    found = [(goal.words, goal.figure, goal.met) for goal in list_goals(copies)[3:]]
    assert found == [
        ("file to file, with checksums: slowest rate / plain copy", pytest.approx(2 / 3), True),
        ("file to file, without checksums: slowest rate / plain copy", 1, True),
        ("file to file: memory, MB", 300, False),
        ("PyTorch, with checksums: slowest rate / plain copy", 0.4, False),
        ("PyTorch, file to new model: memory / weights", 1, True),
    ]


def test_json():
    text = REPORT.to_json()
    assert json.loads(text) == REPORT.to_dict()
    assert BenchReport.from_dict(json.loads(text)) == REPORT
    row = json.loads(text)["timings"][4]
    assert row["ratios"] == {"onnxruntime": 2}
    assert (row["median"], row["quartiles"]) == (4, [3, 6.5])


TABLES = """\
CPU: a CPU; 2 usable; torch 1.0; timm not installed.

| goal | limit | measured |  |
| --- | --- | --- | --- |
| PyTorch deploy() / ONNX Runtime, blocks, geometric mean | <= 1.05 | 1.41 | missed |
| Flax deploy() / ONNX Runtime, blocks, geometric mean | <= 1.5 | 4.00 | missed |

**Blocks with squeeze-and-excitation**

| what | function | ms | quartiles | rate | of the peak | / ONNX Runtime | / native |
| --- | --- | --- | --- | --- | --- | --- | --- |
| block, 1 image | ONNX Runtime | 2000 | 1500 to 2500 | 1 GFLOP/s | 3% | - | - |
|  | PyTorch | 4000 | 3000 to 6500 | 0.5 GFLOP/s | 2% | 2.00 | - |
|  | PyTorch deploy() | 1800 | 1400 to 2400 | 1.11 GFLOP/s | 3% | 1.00 | - |
|  | Flax NNX, native | 4000 | 4000 to 4000 | 0.5 GFLOP/s | 2% | 2.00 | - |
|  | Flax NNX deploy() | 8000 | 5000 to 10000 | 0.25 GFLOP/s | 1% | 4.00 | 2.00 |
| block, 8 images | ONNX Runtime | 1000 | 1000 to 1000 | 2 GFLOP/s | 6% | - | - |
|  | PyTorch deploy() | 2000 | 2000 to 2000 | 1 GFLOP/s | 3% | 2.00 | - |

Not measured: block, 1 image, timm: timm is not installed.

**A matrix product**

| what | function | ms | quartiles | rate |
| --- | --- | --- | --- | --- |
| product | NumPy | 500 | 500 to 500 | 16 GFLOP/s |
|  | PyTorch | 250 | 250 to 250 | 32 GFLOP/s |"""


def test_tables():
    assert format_tables(REPORT) == TABLES
    assert "| blocks, `deploy()`, times ONNX Runtime's time | 1.41 | 4.00 | - |" in (
        format_summary(REPORT)
    )
    assert list(map(format_ms, (0.0001234, 0.00999, 0.0456, 0.5))) == [
        "0.123", "9.99", "45.6", "500",
    ]  # fmt: skip


def test_figures_of_a_busy_machine_come_with_a_warning():
    busy = BenchReport({**REPORT.machine, "load before the run": "1.5"}, REPORT.timings)
    for make in (format_tables, format_summary):
        assert make(busy).startswith("**The machine did other work during this run")
        assert "**The machine" not in make(REPORT)


def bars(text):
    """The widths of the bars of a picture, by their colour."""
    rects = [each.attrib for each in ElementTree.fromstring(text).iter() if "width" in each.attrib]
    return [
        (each["class"], float(each["width"])) for each in rects
        if each.get("class") not in (None, "paper")
    ]  # fmt: skip


def test_picture():
    one = BARS / MOST
    assert bars(chart(REPORT)) == [
        ("stage", one), ("activation", 2 * one), ("activation", one),
        ("convolution", 2 * one), ("convolution", BARS), ("stage", one), ("activation", 2 * one),
    ]  # fmt: skip
    light, dark, both = (chart(REPORT, theme) for theme in ("light", "dark", "auto"))
    assert "prefers-color-scheme" in both
    assert light != dark
    assert "PyTorch deploy() 1.00" in both


def test_a_picture_without_onnx_runtime_compares_with_the_fastest():
    report = BenchReport({}, (PLAIN, DEPLOY))
    assert [width for _, width in bars(chart(report))] == pytest.approx(
        [BARS * ratio(PLAIN, DEPLOY) / MOST, BARS / MOST], rel=1e-4
    )
    assert "Without ONNX Runtime: of the fastest." in chart(report)


def test_picture_files(tmp_path, png):
    save_chart(REPORT, tmp_path / "speed.svg")
    save_chart(REPORT, tmp_path / "speed.png")
    assert (tmp_path / "speed.svg").read_text() == chart(REPORT)
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ArgumentError, match=r"speed\.gif: cannot draw \.gif; expected one of"):
        save_chart(REPORT, tmp_path / "speed.gif")
    with pytest.raises(ArgumentError, match="none of them was measured; add one to --groups"):
        save_chart(BenchReport({}), tmp_path / "speed.svg")


# Cases and rounds


def name(case):
    return f"{case.framework} {case.by}"


def test_what_is_compared_is_side_by_side():
    found = list_cases([(TINY, 1), (TINY, 8)], ("blocks", "deploy"), ("torch", "jax"), ("cpu",))
    assert list(map(name, found)) == [
        "numpy product", "torch product",
        *["onnxruntime onnxruntime", "torch timm", "torch native", "torch plain", "torch deploy",
          "jax native", "jax plain", "jax deploy"] * 2,
    ]  # fmt: skip
    assert [case.batch for case in found[2:]] == [1] * 8 + [8] * 8
    alone = list_cases([(TINY, 1)], ("blocks",), ("jax",), ("cpu",), references=False)
    assert list(map(name, alone)) == ["jax plain"]
    assert BenchCase.from_dict(json.loads(json.dumps(found[2].to_dict()))) == found[2]


def test_formats_on_cuda_are_apart():
    found = list_cases([(TINY, 1)], ("deploy",), ("torch",), ("cuda",))
    assert [(name(case), case.form) for case in found] == [
        *[("torch product", form) for form in ("float32", "tf32", "bfloat16")],
        *[("torch timm", "float32"), ("torch native", "float32"), ("torch deploy", "float32")],
        *[("torch timm", "tf32"), ("torch native", "tf32"), ("torch deploy", "tf32")],
        *[("torch timm", "bfloat16"), ("torch deploy", "bfloat16")],
    ]


def test_groups_choose_models():
    labels = [model.label for model, _ in list_models(("networks",), (1,), full=True)]
    assert labels == ["se-resnet18, 64 x 64", "se-resnet18, 224 x 224", "resnet50, 224 x 224"]
    assert len(list_models(("blocks",), (1, 8))) == 4
    assert len(list_models(("deploy",), (1, 8))) == 6
    assert len(list_models(("blocks", "deploy"), (1, 8))) == 4
    assert list_models(("attention",), (1,)) == []
    assert not BenchPlan(groups=("attention",)).cases


def test_every_other_round_goes_backwards():
    orders = [list(order_round(3, number)) for number in range(3)]
    assert orders == [[0, 1, 2], [2, 1, 0], [0, 1, 2]]


@pytest.fixture
def tiny(monkeypatch):
    """The quick block is tiny."""
    monkeypatch.setattr(cases, "QUICK_BLOCKS", (TINY,))


class Fakes:
    """Processes without frameworks: they know the right outputs, and time stands still.

    missing: programs, or "program by", that are not installed. wrong: "program by" whose output is
    not that of the oracle.
    """

    def __init__(self, missing=(), wrong=(), devices=("cpu",)):
        self.missing, self.wrong, self.devices = missing, wrong, devices
        self.open, self.calls, self.cases, self.efforts = [], [], {}, []

    @contextmanager
    def __call__(self, framework, threads):
        assert threads >= 1
        self.open.append(framework)
        yield lambda do, **values: getattr(self, do)(framework, **values)
        self.open.remove(framework)

    def describe(self, framework):
        if framework in self.missing:
            return {"missing": f"{framework} is not installed"}
        return {"versions": f"{framework} 1.0", "devices": self.devices}

    def prepare(self, framework, case, output):
        case = BenchCase.from_dict(case)
        assert framework == case.framework
        if name(case) in self.missing:
            return {"missing": f"{case.by} is not installed"}
        made = self.cases.setdefault(framework, [])
        made.append(case)
        if case.by != "product":
            np.save(output, expected(case) + (name(case) in self.wrong))
        return {"number": len(made) - 1}

    def time(self, framework, number, seconds):
        case = self.cases[framework][number]
        self.calls.append(name(case))
        return {"seconds": [1.0, 2.0 + self.calls.count(name(case)), 9.0]}

    def measure(self, framework, group, device, effort):
        self.efforts.append(Effort.from_dict(json.loads(json.dumps(effort))))
        seconds = (1.0,) * effort["rounds"]
        rows = [Timing(group, "x", framework, by, seconds) for by in ("plain", "native")]
        return {"timings": [{**vars(row), "seconds": list(row.seconds)} for row in rows]}


def expected(case):
    model = case.model
    x = random_input(model.config, model.size, 1, "float32")
    problem = pose(model.config, random_arrays(model.config), x)
    return problem.expected["eval output"]["output"].astype("float32")


def quick(**fields):
    return BenchPlan(**{
        "groups": ("blocks", "deploy"), "frameworks": ("torch",), "batches": (1,), "rounds": 3,
        "quick": True, **fields,
    })  # fmt: skip


def test_rounds_are_interleaved(tiny):
    fakes, lines = Fakes(), []
    report = run_bench(quick(), lines.append, fakes)
    order = ["numpy product", "torch product", "onnxruntime onnxruntime", "torch timm",
             "torch native", "torch plain", "torch deploy"]  # fmt: skip
    assert fakes.calls == [*order, *reversed(order), *order]
    assert fakes.open == []
    assert all(each.seconds == (3.0, 4.0, 5.0) for each in report.timings)  # of each turn's median
    assert report.machine["PyTorch"] == "torch 1.0"
    assert "round 3 of 3" in lines
    deployed = report.select(by="deploy")[0]
    assert deployed.work == 2 * TINY.multiply_adds > 0
    assert report.select(framework="numpy")[0].work == 2 * 2048**3


def test_what_is_missing_is_said(tiny):
    fakes = Fakes(missing=("onnxruntime", "torch timm"))
    report = run_bench(quick(), open_channel=fakes)
    missing = {each.by: each.missing for each in report.timings if each.missing}
    assert missing == {
        "onnxruntime": "onnxruntime is not installed", "timm": "timm is not installed",
    }  # fmt: skip
    assert not set(fakes.calls) & {"onnxruntime onnxruntime", "torch timm"}
    assert report.machine["ONNX Runtime"] == "not installed"
    assert "Not measured: tiny, 1 image, timm: timm is not installed." in format_tables(report)


def test_a_device_that_is_missing_is_said(tiny):
    report = run_bench(quick(devices=("cuda",)), open_channel=Fakes())
    assert {each.missing for each in report.timings} == {"PyTorch sees no cuda here"}
    assert report.measured == []


def test_a_wrong_function_is_not_measured(tiny):
    with pytest.raises(RuntimeError, match="deploy, float32 computes something else than the ora"):
        run_bench(quick(), open_channel=Fakes(wrong=("torch deploy",)))


def test_large_models_are_not_checked(monkeypatch):
    monkeypatch.setattr(runner, "MOST_CHECKED", TINY.multiply_adds - 1)
    case = list_cases([(TINY, 1)], ("blocks",), ("torch",), ("cpu",), references=False)[0]
    check_output(case, np.zeros((1, 5, 3, 4)))


def test_groups_with_functions_of_their_own():
    plan = BenchPlan(("attention", "converter"), ("torch", "jax"), rounds=2, full=True)
    fakes = Fakes(missing=("jax",))
    report = run_bench(plan, open_channel=fakes)
    found = [(each.part, each.framework, each.by, bool(each.missing)) for each in report.timings]
    assert found == [
        ("attention", "torch", "plain", False), ("attention", "torch", "native", False),
        ("attention", "jax", "plain", True),
        ("converter", "torch", "plain", False), ("converter", "torch", "native", False),
        ("converter", "jax", "plain", True),
        ("converter", "numpy", "plain", False), ("converter", "numpy", "native", False),
    ]  # fmt: skip
    assert set(fakes.efforts) == {Effort(2, full=True, frameworks=("torch", "jax"))}


@pytest.mark.parametrize("group", [name for name in MEASURED_GROUPS if name != "commands"])
def test_measured_groups(framework, group, request):
    if framework == "torch" and group != "converter":
        request.getfixturevalue("timm")
    found = measure_group(group, framework, "cpu", Effort(2, quick=True))
    assert found
    ours = [each for each in found if each.by == "plain"]
    theirs = [each for each in found if each.by != "plain"]
    assert [each.task for each in ours] == [each.task for each in theirs]
    assert all((each.part, len(each.seconds)) == (group, 2) for each in found)
    if group == "converter" and sys.platform == "linux":
        new, *others = ours  # in a process that has built a model before it would take less
        assert new.memory >= new.work
        assert all(each.memory is None for each in others)
    (absent,) = measure_group(group, framework, "elsewhere", Effort(2))
    assert absent.missing.startswith("is measured on ")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of a process")
def test_files_and_their_memory():
    found = measure_group("converter", "numpy", "cpu", Effort(1, quick=True))
    assert all(each.memory is not None for each in found if each.by == "plain")


def test_a_fresh_process_that_fails():
    with pytest.raises(RuntimeError, match=r"converter nothing failed:\n(.|\n)*not enough values"):
        run_fresh("resattn.benchmarks.converter", "nothing")


@pytest.fixture
def runs(monkeypatch):
    """What `resattn` is called with, instead of running it; "tf" is not installed."""
    calls = []

    def run(arguments):
        calls.append(arguments)
        missing = arguments[-1] == "tf"
        errors = "a warning\nresattn: Keras is not\ninstalled.\n" if missing else ""
        return CommandRun(2 if missing else 0, errors, len(calls), 2.0 * len(calls), 10**8)

    monkeypatch.setattr(commands, "run_command", run)
    return calls


def test_commands(runs):
    effort = Effort(9, quick=True, full=True)
    programs = list_programs("commands", ("torch", "tf"))
    assert programs == ("torch", "tf", "numpy")
    timings = [row for name in programs for row in measure_group("commands", name, "cpu", effort)]
    path = runs[4][1]
    assert runs == [
        *[("check", "--frameworks", "torch")] * 3, ("check", "--frameworks", "tf"),
        *[("inspect", path)] * 3, *[("check",)] * 3, ("check", "--config", "resnet50"),
    ]  # fmt: skip
    report = BenchReport({}, tuple(timings))
    goals = [(goal.words, goal.figure, goal.met) for goal in list_goals(report)[3:]]
    assert goals == [
        ("resattn check --frameworks torch: CPU, s", 4, True),
        ("resattn inspect FILE, 1 MB: s", 6, False),
        ("resattn inspect FILE, 1 MB: memory, MB", 100, True),
        ("resattn check, three frameworks: CPU, s", 18, False),
        ("resattn check --config resnet50, three frameworks: s", 11, True),
    ]
    tables = format_tables(report)
    assert "| what | function | ms | quartiles | CPU, ms | memory, MB |" in tables
    assert "| resattn check | command line | 9000 | 8500 to 9500 | 18000 | 100 |" in tables
    assert "resattn check --frameworks tf, command line: Keras is not installed." in tables
    assert BenchReport.from_dict(json.loads(report.to_json())) == report


def test_commands_of_some_frameworks(runs):
    effort = Effort(1, quick=True, full=True, frameworks=("torch", "jax"))
    (found,) = measure_group("commands", "numpy", "cpu", effort)
    assert found.label.startswith("resattn inspect FILE")


def test_a_command_that_fails(monkeypatch):
    monkeypatch.setattr(commands, "run_command", lambda _: CommandRun(1, "they differ", 1, 1, 1))
    with pytest.raises(RuntimeError, match="resattn check ended with status 1:\nthey differ"):
        commands.time_command("resattn check", ("check",), "numpy", 1)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs wait4")
def test_a_command_in_a_process(tmp_path):
    run = commands.run_command(("inspect", str(tmp_path / "no.npz")))
    assert run.status == 2
    assert "no.npz" in run.errors
    assert run.cpu_seconds > 0
    assert run.seconds > 0
    assert 10**7 < run.memory < 10**9


# What is measured


def judge(model, framework, by):
    case = BenchCase(
        model.part, model.label, framework, by, batch=2, config=model.config.to_json(),
        size=model.size,
    )  # fmt: skip
    made = prepare_function(case, threads=1)
    with made.scope():
        check_output(case, made.canonical(made.work())[:1])
        assert made.time() > 0


@pytest.mark.parametrize("model", [TINY, SMALL_NETWORK], ids=["block", "network"])
@pytest.mark.parametrize("by", ["plain", "native"])
def test_functions_compute_what_the_oracle_does(framework, model, by):
    judge(model, framework, by)


@pytest.mark.parametrize("framework", ["jax", "tf"])
def test_deployed_functions(framework, request):
    """PyTorch's, which compiles for ten seconds, is in the run below."""
    request.getfixturevalue({"jax": "jax", "tf": "keras"}[framework])
    judge(TINY, framework, "deploy")


def test_timm_block(timm):
    judge(TINY, "torch", "timm")


def test_timm_network_takes_our_weights(timm):
    config = preset("se-resnet18")
    arrays = random_arrays(config)
    model = make_timm(config, arrays, "cpu")
    found = model.state_dict()["layer2.1.se.fc2.weight"].numpy()
    assert (found == arrays["stages.1.1.attention.fc2.weight"]).all()


def test_onnx_runtime(torch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    judge(TINY, "onnxruntime", "onnxruntime")


def test_a_library_that_is_missing():
    with pytest.raises(MissingFramework, match=r'nowhere is not installed: pip install "resattn\['):
        require_library("nowhere")


# The process of a framework


def answers(framework, *commands):
    written = io.StringIO()
    serve(Worker(framework, 1), [json.dumps(command) for command in commands], written)
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_worker(tmp_path):
    product = BenchCase("peak", "product", "numpy", "product", size=(8, 8))
    described, prepared, timed, failed = answers(
        "numpy",
        {"do": "describe"},
        {"do": "prepare", "case": product.to_dict(), "output": str(tmp_path / "a.npy")},
        {"do": "time", "number": 0, "seconds": 0},
        {"do": "time", "number": 1, "seconds": 0},
        {"do": "describe"},
    )
    assert described == {"versions": f"numpy {np.__version__}", "devices": ["cpu"]}
    assert prepared == {"number": 0}
    assert np.load(tmp_path / "a.npy").shape == (1, 8)
    assert len(timed["seconds"]) == 1
    assert "IndexError" in failed["error"]


def test_a_worker_without_its_framework(monkeypatch):
    def absent(framework):
        raise MissingFramework("not here")

    monkeypatch.setattr("resattn.benchmarks.worker.adapter", absent)
    assert answers("jax", {"do": "describe"}) == [{"missing": "not here"}]


def test_a_real_run(torch, tmp_path):
    """One block in PyTorch, in processes of their own."""
    arguments = "bench --quick --groups blocks,deploy --frameworks torch --batch 1 --no-references"
    files = ["--json", tmp_path / "a.json", "--markdown", tmp_path / "a.md"]
    files += ["--picture", tmp_path / "a.svg"]
    result = CliRunner().invoke(app, [*arguments.split(), *map(str, files)])
    assert result.exit_code == 0, result.exception
    report = read_report(tmp_path / "a.json")
    assert [(each.by, len(each.seconds)) for each in report.timings] == [
        ("plain", 3), ("deploy", 3),
    ]  # fmt: skip
    assert "threads in every program" in report.machine["cores"]
    assert (tmp_path / "a.md").read_text() == f"{format_tables(report)}\n"
    assert format_tables(report) in result.output
    assert (tmp_path / "a.svg").read_text() == chart(report)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--groups blocks,layers", f"groups: expected one of {', '.join(GROUPS)}, got 'layers'"),
        ("--frameworks mxnet", "frameworks: expected one of torch, jax, tf, got 'mxnet'"),
        ("--devices tpu", "devices: expected one of cpu, cuda, got 'tpu'"),
        ("--batch 0", "batch: expected a positive integer, got 0"),
        ("--batch many", "--batch: expected whole numbers separated by commas, got 'many'"),
        ("--picture speed.gif", "speed.gif: cannot draw .gif"),
    ],
)
def test_bad_arguments(arguments, message):
    result = CliRunner().invoke(app, ["bench", *arguments.split()])
    assert isinstance(result.exception, ArgumentError)
    assert message in str(result.exception)


@pytest.fixture
def plans(monkeypatch):
    """The plans that `resattn bench` would have carried out."""
    found = []

    def run(plan, progress):
        found.append(plan)
        return REPORT

    monkeypatch.setattr(runner, "run_bench", run)
    return found


@pytest.mark.parametrize("option", ["--json", "--markdown", "--picture"])
def test_targets_are_checked_before_anything_is_measured(option, plans, tmp_path):
    (tmp_path / "folder.svg").mkdir()
    for target, message in (
        ("nowhere/a.svg", "nowhere does not exist"),
        ("folder.svg", "it is a folder"),
    ):
        result = CliRunner().invoke(app, ["bench", option, str(tmp_path / target)])
        assert isinstance(result.exception, FileError)
        assert message in str(result.exception)
    assert plans == []


def test_a_file_is_written_even_if_another_one_fails(plans, monkeypatch, tmp_path):
    def refuse(path, write_to):
        if path.suffix in (".json", ".md"):
            raise FileError(f"{path.name}: cannot be written (no space)")

    monkeypatch.setattr(atomic, "write_atomically", refuse)
    files = [tmp_path / name for name in ("a.json", "a.md", "a.svg")]
    options = zip(("--json", "--markdown", "--picture"), map(str, files), strict=True)
    result = CliRunner().invoke(app, ["bench", *(word for pair in options for word in pair)])
    assert isinstance(result.exception, FileError)
    both = "a.json: cannot be written (no space); a.md: cannot be written (no space)"
    assert str(result.exception) == both
    assert files[2].read_text() == chart(REPORT)


@pytest.mark.parametrize(
    ("options", "rounds"), [("", 15), ("--quick", 3), ("--quick --rounds 7", 7), ("--rounds 2", 2)]
)
def test_rounds(options, rounds, plans):
    result = CliRunner().invoke(app, ["bench", *options.split()])
    assert result.exit_code == 0
    assert [plan.rounds for plan in plans] == [rounds]


# Documents


@pytest.mark.parametrize(("path", "make"), [(PAGE, format_tables), (SUMMARY, format_summary)])
def test_documents_have_the_figures(path, make):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert put_between_marks(text, make(read_report(ROOT / FIGURES)), path.name) == text


def test_the_picture_has_the_figures():
    report = read_report(ROOT / FIGURES)
    assert (ROOT / FIGURES.with_suffix(".svg")).read_text(encoding="utf-8") == chart(report)


def test_a_document_without_marks():
    with pytest.raises(
        FileError, match=r"a\.md: expected the lines <!-- speed: start --> and <!--"
    ):
        put_between_marks("text", "figures", "a.md")
