"""`resattn check --device`: what it measures, what it finds, and how it says so."""

import json
import os
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from resattn.checking import verdict_run, verdict_worker
from resattn.checking.backends import Backend
from resattn.checking.crosscheck import compare_quantities
from resattn.checking.determinism import find_spread, list_changed, refuses, set_at_start
from resattn.checking.rounding import FORMATS, TF32
from resattn.checking.verdict import (
    PARTICIPANTS,
    Assignment,
    DeviceMeasurement,
    Participant,
    Verdict,
    count_sentence,
)
from resattn.checking.verdict_cases import (
    COMPILED_FORMS,
    MODELS,
    list_assignments,
    list_beside,
    list_forms,
    pose_case,
)
from resattn.checking.verdict_run import give_verdict
from resattn.checking.verdict_table import (
    conclude,
    describe_repeats,
    describe_worst,
    format_markdown,
    list_disagreements,
    put_table,
    tabulate_verdict,
)
from resattn.checking.verdict_worker import measure_assignment
from resattn.cli import check as command
from shared_tests.test_cli import fails, run
from shared_tests.test_errors import raises
from weights.errors import ArgumentError, FileError, MissingFramework
from weights.frameworks import FRAMEWORKS
from weights.live import LiveModel

ROOT = Path(__file__).parent.parent
EAGER = Assignment("identity", "float32", "cpu", "eager")
GOOD = DeviceMeasurement("PyTorch", "a", "float32", "cpu", "eager", 1e-7, 0.5, "eval output output",
                   comparisons=20)  # fmt: skip


@pytest.fixture(autouse=True)
def flag_of_xla(monkeypatch):
    """On a GPU, Flax refuses to be deterministic without it."""
    monkeypatch.setenv("XLA_FLAGS", set_at_start(os.environ, True)["XLA_FLAGS"])


def a_verdict(*measurements, device="cpu"):
    setting = {"device": "cuda (NVIDIA X)" if device == "cuda" else "cpu", "machine": "x, 2 cores"}
    return Verdict(device, setting, {"PyTorch": "torch 9"}, {"PyTorch": 3.0}, {}, measurements)


# Determinism


def test_what_is_set_before_a_process_starts():
    flag = "--xla_gpu_deterministic_ops=true"
    found = set_at_start({"A": "1", "XLA_FLAGS": "--xla_a=1"}, True)
    assert found == {
        "A": "1", "XLA_FLAGS": f"--xla_a=1 {flag}", "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }  # fmt: skip
    assert set_at_start(found, True) == found
    assert set_at_start(found, False) == {"A": "1", "XLA_FLAGS": "--xla_a=1"}


def test_bits_and_spread():
    one = {"eval output": {"output": np.array([1.0, 2, np.nan]), "other": np.zeros(2)}}
    same = {"eval output": {name: array.copy() for name, array in one["eval output"].items()}}
    assert list_changed(one, same) == []
    same["eval output"]["other"][0] = -0.0  # equal, with other bits
    assert list_changed(one, same) == [("eval output", "other")]
    runs = [{"q": {"t": np.array([0.0, x])}} for x in (1.0, 3.0, 2.0)]
    assert find_spread(runs) == {("q", "t"): pytest.approx(2**0.5)}


def test_refusals_are_known(torch):
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError) as caught:
            torch.zeros(3).put_(torch.tensor([1]), torch.ones(1))
    finally:
        torch.use_deterministic_algorithms(False)
    assert refuses(caught.value)
    assert not refuses(RuntimeError("out of memory"))
    assert not refuses(ArgumentError("--xla_gpu_deterministic_ops is missing"))


# TF32


def test_what_rounding_to_tf32_explains():
    """Thirteen bits less than float32 has; three more than bfloat16. Not of gradients: with fewer
    bits, rounding decides the side of some kinks.
    """
    problems = {
        form: pose_case("stride2-odd", form) for form in ("float32", TF32, "mixed_bfloat16")
    }
    explained = {form: posed.rounding.explained for form, posed in problems.items()}
    for form, low, high in (("float32", 2**11, 2**14), ("mixed_bfloat16", 1 / 17, 1 / 5)):
        ratios = [
            explained[TF32][key] / each
            for key, each in explained[form].items()
            if "gradient" not in key[0]
        ]
        assert low < np.median(ratios) < high
    assert problems[TF32].x.dtype == np.float32
    assert problems[TF32].format.compute is None


def round_to(torch, x, bits):
    """The nearest numbers with so many bits of mantissa."""
    if x.dtype != torch.float32:
        return x
    mantissa, exponent = torch.frexp(x.double())
    step = 2.0 ** (bits + 1)
    return torch.ldexp(torch.round(mantissa * step) / step, exponent).float()


@pytest.fixture
def rounded_products(torch, monkeypatch):
    """A function after which PyTorch's products round their factors to so many bits."""
    functional = torch.nn.functional
    plain = functional.conv2d, functional.linear

    class Factor(torch.autograd.Function):
        """Rounds a factor; its slope is rounded where it is a factor of other products."""

        @staticmethod
        def forward(ctx, x, bits):
            return round_to(torch, x, bits)

        @staticmethod
        def backward(ctx, slope):
            return slope, None

    class Result(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y, bits):
            ctx.bits = bits
            return y.clone()

        @staticmethod
        def backward(ctx, slope):
            return round_to(torch, slope, ctx.bits), None

    def switch(bits):
        def product(function):
            def compute(x, weight, bias=None, *rest, **more):
                x, weight = Factor.apply(x, bits), Factor.apply(weight, bits)
                return Result.apply(function(x, weight, bias, *rest, **more), bits)

            return compute

        monkeypatch.setattr(functional, "conv2d", product(plain[0]))
        monkeypatch.setattr(functional, "linear", product(plain[1]))

    return switch


def judge(form, model):
    posed = pose_case(model, form)
    outcome = posed.measure(Backend("torch", "cpu"))
    return [
        row
        for row in compare_quantities(posed, outcome, posed.expected, ("torch", "oracle"))
        if row.quantity != "weights"
    ]


@pytest.mark.parametrize("model", ["stride2-odd", "network", "attention-bam", "wide block"])
def test_products_in_tf32_are_within_what_it_explains(rounded_products, model):
    """Ten bits are right; six are found, and so is TF32 that should have been off."""
    rounded_products(10)
    rows = judge(TF32, model)
    assert all(row.ok for row in rows), max(rows, key=lambda row: row.excess)
    assert max(row.times for row in rows) > 0.1
    assert max(row.times for row in judge("float32", model)) > 100
    rounded_products(5)
    assert not all(row.ok for row in judge(TF32, model))


# What is measured


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_kind_in_every_format(framework):
    usual = "compiled" if framework == "jax" else "eager"
    found = list(list_assignments(framework, "cuda", ("eager", "compiled")))
    assert len(found) == len(set(found))
    assert {each.device for each in found} == {"cuda"}
    for model in MODELS:
        forms = {each.form for each in found if each.case == model and each.way == usual}
        assert {"float64", "float32", TF32} < forms
    assert {each.form for each in found} == set(FORMATS)
    others = {(each.way, each.form) for each in found if each.way != usual}
    ways = {"jax": {"eager"}, "torch": {"compiled", "channels_last"}, "tf": {"compiled"}}
    assert {way for way, _ in others} == ways[framework]
    assert {form for _, form in others} >= set(COMPILED_FORMS)
    beside = list(list_beside(framework))
    assert {(each.device, each.way) for each in beside} == {("cpu", usual)}
    assert {each.form for each in beside} == {*FORMATS} - {TF32}
    assert {each.case for each in beside if each.form == "float64"} == {*MODELS}


def test_a_backend_that_does_not_compile():
    assert all(each.way == "eager" for each in list_assignments("tf", "cpu", ("eager",)))


def test_problems_are_the_same_in_another_process():
    posed = pose_case("attention-eca", "mixed_float16")
    assert "rounding" in vars(posed)
    assert posed.exact.stored is not None
    assert posed.expected["weights"].keys() == posed.arrays.keys()


def measured(framework, assignment=EAGER, **options):
    posed = pose_case(assignment.case, assignment.form)
    return measure_assignment(assignment, framework, "it", posed, options.get("asked", True))


def test_a_right_framework(framework):
    found = measured(framework)
    assert found.ok, found
    assert found.comparisons > 20
    assert 0 < found.times <= 5
    assert 0 < found.distance < 1e-5
    assert not found.changed
    assert found.spread == 0


def test_channels_last(torch, monkeypatch):
    seen = []
    inner = LiveModel.gradients

    def spy(self, *arguments, **mode):
        weight = self.model.conv1.weight
        seen.append(weight.is_contiguous(memory_format=torch.channels_last))
        return inner(self, *arguments, **mode)

    monkeypatch.setattr(LiveModel, "gradients", spy)
    assert measured("torch", replace(EAGER, way="channels_last")).ok
    assert seen == [True] * 4


def disturb(monkeypatch, factor):
    """Outputs that are off, by another factor in each pass."""
    inner, passes = LiveModel.gradients, count()

    def off(self, *arguments, **mode):
        y, slopes = inner(self, *arguments, **mode)
        return (y * factor(next(passes))).astype(y.dtype), slopes

    monkeypatch.setattr(LiveModel, "gradients", off)


def test_a_mistake_is_found(framework, monkeypatch):
    disturb(monkeypatch, lambda number: 1.001)
    found = measured(framework)
    assert not found.ok
    assert found.over == 2
    assert found.where.endswith("output output")
    assert not found.changed


def test_other_bits_in_a_second_run_are_found(framework, monkeypatch):
    disturb(monkeypatch, lambda number: 1 + 1e-7 * (number // 2))
    found = measured(framework)
    assert not found.ok
    assert not found.over
    assert found.changed == ("eval output output", "train output output")


def test_an_operation_that_refuses_and_one_that_fails(framework, monkeypatch):
    def refuse(self, *arguments, **mode):
        raise RuntimeError(words)

    monkeypatch.setattr(LiveModel, "gradients", refuse)
    words = "put_ does not have a deterministic implementation\nmore"
    found = measured(framework)
    assert found.refused == "RuntimeError: put_ does not have a deterministic implementation"
    assert not found.failed
    words = "out of memory"
    assert measured(framework).failed == "RuntimeError: out of memory"
    words = "not deterministic"  # it was not asked to be
    assert measured(framework, asked=False).failed


def test_the_spread_of_ten_runs_is_what_a_difference_is_measured_against(torch, monkeypatch):
    disturb(monkeypatch, lambda number: 1 + 1e-4 * (number // 2))
    found = measured("torch", asked=False)
    assert found.ok, found
    assert found.spread > 100
    disturb(monkeypatch, lambda number: 1.01)  # farther than that from the oracle
    assert not measured("torch", asked=False).ok


# The processes


def test_processes_of_every_participant(all_frameworks):
    verdict = give_verdict("cpu", models=("identity",))
    assert verdict.ok, list_disagreements(verdict)
    labels = [each.label for each in PARTICIPANTS]
    assert list(verdict.versions) == labels
    for label in labels:
        assert {each.form for each in verdict.select(participant=label)} == {
            *list_forms("identity")
        }
    assert verdict.versions["Keras on JAX"].startswith("keras")
    assert " on jax " in verdict.versions["Keras on JAX"]
    plain = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert Verdict.from_dict(plain) == verdict


def test_one_framework_alone(torch):
    """With a model that is computed in all ways but torch.compile's, which takes a minute."""
    progress = []
    verdict = give_verdict("cpu", ("torch",), ("network",), progress.append)
    assert verdict.ok, list_disagreements(verdict)
    assert set(verdict.list_values("way")) == {"eager", "channels_last"}
    assert progress[0] == "oracle, 1 of 1: network"
    count = len(verdict.measurements)
    assert any(line.endswith(f"{count} of {count}") for line in progress)


def test_what_is_not_installed_is_said(torch, monkeypatch):
    monkeypatch.setattr(
        verdict_run, "find_spec", lambda name: None if name in ("keras", "tensorflow", "jax") else 1
    )
    verdict = give_verdict("cpu", ("torch", "tf"), ("identity",))
    assert verdict.ok
    assert verdict.missing["Keras on TensorFlow"] == "keras and tensorflow not installed"
    assert "Keras on JAX: keras and jax not installed." in format_markdown(verdict)
    monkeypatch.setattr(verdict_run, "find_spec", lambda name: None)
    with raises(MissingFramework, "no framework is installed: PyTorch: torch not installed"):
        give_verdict("cpu", ("torch",))


def test_a_device_that_nobody_sees(torch):
    from weights.live import adapter

    if "cuda" not in adapter("torch").devices():
        with raises(ArgumentError, "device 'cuda': PyTorch sees only cpu on this machine"):
            give_verdict("cuda", ("torch",))
    with raises(ArgumentError, "device: expected one of cpu, cuda, got 'moon'"):
        give_verdict("moon")
    with raises(ArgumentError, "framework: expected one of torch, jax, tf, got 'caffe'"):
        give_verdict("cpu", ("caffe",))
    with raises(ArgumentError, "models: expected one of identity"):
        give_verdict("cpu", ("torch",), ("vgg",))


def test_a_process_that_ends(torch, monkeypatch):
    monkeypatch.setattr(verdict_run.sys, "executable", shutil.which("false"))
    verdict = give_verdict("cpu", ("torch",), ("identity",))
    assert not verdict.ok
    assert "the process ended with status 1" in list_disagreements(verdict)[0]


def test_what_is_refused_is_measured_again(monkeypatch, tmp_path):
    """In a second process, which asks for nothing."""
    asked = []
    refused = replace(GOOD, case="b", comparisons=0, refused="RuntimeError: no")

    def start(self, deterministic, assignments=None):
        asked.append((deterministic, assignments))
        given = [GOOD, refused] if deterministic else [replace(GOOD, case="b", spread=2.5)]
        return iter([{"measurement": each.to_dict()} for each in given])

    monkeypatch.setattr(verdict_run._Job, "_start", start)
    job = verdict_run._Job(tmp_path, PARTICIPANTS[0], "cpu", ("a", "b"), lambda line: None)
    job.run()
    assert asked == [(True, None), (False, [refused.assignment])]
    assert job.measurements == [
        GOOD,
        replace(GOOD, case="b", refused="RuntimeError: no", spread=2.5),
    ]
    verdict = a_verdict(*job.measurements)
    assert verdict.ok
    assert describe_repeats(verdict) == [
        "PyTorch: 1 of 1 are equal bit for bit in two runs; in 1 an operation refused.",
        "PyTorch, b, float32 on cpu, eager: RuntimeError: no; ten runs are apart by up to 2.5 "
        "times what rounding explains",
    ]


def test_the_worker_says_what_it_knows(torch, tmp_path):
    job = {"framework": "torch", "label": "PyTorch", "device": "moon", "models": ["identity"],
           "beside": False, "assignments": None, "deterministic": True}  # fmt: skip
    told = []
    verdict_worker.compute_assignment(tmp_path, job, told.append)
    (only,) = told  # nothing to count on a device that is not there
    assert only["devices"]["cpu"] == "cpu"
    assert only["versions"].startswith("torch")


# The table


def test_cells():
    assert describe_worst([]) == "-"
    assert describe_worst([GOOD, replace(GOOD, times=0.25, distance=2e-7)]) == "0.5 (2e-07)"
    assert describe_worst([replace(GOOD, over=1, times=7)]) == "7 (1e-07) OVER"
    assert describe_worst([GOOD, replace(GOOD, failed="no")]) == "FAILED in 1 of 2"


def test_the_table_of_a_device_beside_the_cpu():
    found = [
        replace(GOOD, device=device, way=way, form=form)
        for form in ("float32", "tf32", "float64")
        for device, way in (("cpu", "eager"), ("cuda", "channels_last"), ("cuda", "eager"))
    ]
    verdict = a_verdict(*found, device="cuda")
    heads, *rows = tabulate_verdict(verdict)
    assert heads == ("", "format", "cuda, eager", "cuda, channels last", "cpu, eager")
    assert [row[:2] for row in rows] == [
        ("PyTorch", "float64"), ("", "float32, TF32 off"), ("", "float32, TF32 on"),
    ]  # fmt: skip
    text = format_markdown(verdict)
    assert text.startswith("## Verdict on cuda (NVIDIA X)")
    assert "| PyTorch | float64 | 0.5 (1e-07) | 0.5 (1e-07) | 0.5 (1e-07) |" in text
    assert "All 180 comparisons on cuda and the CPU are within 5 times" in text


def test_what_disagrees_is_listed():
    over = replace(GOOD, over=2, times=9.25)
    changed = replace(GOOD, case="b", changed=("train gradient x", "train gradient y"))
    failed = replace(GOOD, case="c", failed="RuntimeError: no", comparisons=0)
    verdict = a_verdict(GOOD, over, changed, failed)
    assert not verdict.ok
    assert list_disagreements(verdict) == [
        "PyTorch, a, float32 on cpu, eager: 2 of 20 comparisons are over the limit, the worst eval "
        "output output: 9.25 times what rounding explains",
        "PyTorch, b, float32 on cpu, eager: 2 tensors have other bits in a second run, such as "
        "train gradient x",
        "PyTorch, c, float32 on cpu, eager: RuntimeError: no",
    ]
    assert conclude(verdict) == "FAILED: 3 disagreements."
    assert conclude(a_verdict(GOOD, device="cuda")) == "FAILED: nothing was measured on cuda."
    assert count_sentence(verdict.measurements).startswith("2 of 3 are equal")
    assert "and 10 more" in format_markdown(a_verdict(*[failed] * 30))


def test_infinities_are_written(tmp_path):
    verdict = a_verdict(replace(GOOD, times=float("inf"), over=1))
    plain = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert Verdict.from_dict(plain) == verdict


def test_labels_and_packages():
    assert [each.label for each in PARTICIPANTS] == [
        "PyTorch", "Flax NNX", "Keras on TensorFlow", "Keras on JAX", "Keras on PyTorch",
    ]  # fmt: skip
    assert Participant("tf", "jax").packages == ("keras", "jax")


def test_a_document_without_marks():
    with raises(FileError, "a.md: expected the lines <!-- verdict: start -->"):
        put_table("text", "table", "a.md")


def test_the_page_is_what_the_file_says():
    """And it says of which device."""
    verdict = Verdict.from_dict(json.loads((ROOT / "docs" / "gpu.json").read_text("utf-8")))
    page = (ROOT / "docs" / "gpu.md").read_text("utf-8")
    assert put_table(page, format_markdown(verdict), "gpu.md") == page
    assert ("No GPU has been seen yet" in page) == (verdict.device == "cpu")
    assert ("## Verdict on a CPU: no GPU was there" in page) == (verdict.device == "cpu")


# The command


def test_which_options_ask_for_a_verdict():
    def asks(*given, devices="cuda"):
        return command.asks_for_verdict(list(given), devices)

    assert asks("--devices")
    assert asks("--devices", "--json", "--frameworks")
    assert not asks("--devices", devices="cpu,cuda")
    assert not asks("--frameworks")
    assert not asks("--devices", "FILE")
    assert not asks("--devices", "--golden")


@pytest.mark.parametrize("spelling", ["--device", "--devices"])
def test_the_command(monkeypatch, tmp_path, spelling):
    asked = []

    def give(device, frameworks, progress):
        asked.append((device, frameworks))
        progress("a step")
        return a_verdict(*found)

    monkeypatch.setattr(verdict_run, "give_verdict", give)
    found = [GOOD]
    file = tmp_path / "v.json"
    done = run("check", spelling, "cpu", "--frameworks", "torch,jax", "--json", file)
    assert done.exit_code == 0, done.output
    assert asked == [("cpu", ("torch", "jax"))]
    assert "All 20 comparisons on the CPU are within" in done.output
    assert "PyTorch: torch 9, 3 s." in done.output
    assert Verdict.from_dict(json.loads(file.read_text("utf-8"))) == a_verdict(GOOD)
    found = [GOOD, replace(GOOD, over=1, times=8)]
    done = run("check", spelling, "cpu", "--json", file, "--force")
    assert done.exit_code == 1
    assert "FAILED: 1 disagreements." in done.output
    assert not json.loads(file.read_text("utf-8"))["ok"]


def test_the_command_on_a_device_that_is_not_there():
    fails(
        ArgumentError, "device: expected one of cpu, cuda, got 'moon'", "check", "--device", "moon"
    )
