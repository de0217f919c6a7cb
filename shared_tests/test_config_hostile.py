"""Configs, recipes and preprocessing from strangers: a value that works, or one clear error."""

import json
import time
from contextlib import suppress
from dataclasses import fields

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weights import BlockConfig, NetworkConfig
from weights.attention import ATTENTION
from weights.checks import DEEPEST, quote
from weights.config import MOST_BLOCKS, BottleneckConfig
from weights.config_json import config_from_json
from weights.errors import ArgumentError
from weights.fields import MOST_TEXT, parse_json
from weights.graph import graph
from weights.preprocessing import Preprocessing, read_preprocessing
from weights.recipe import OPTIMIZERS, SCHEDULES, Recipe
from weights.schema import schema

LONG = "9" * 5000  # more digits than Python reads
SPECIAL = [
    5e-324, 1e308, float("inf"), float("-inf"), float("nan"), -0.0, 0.0, 0.5, 1.0, 3.4e38, 1e-39,
    10**400, -(10**400), 2**31 - 1, 2**31, 2**63, 0, -1, 1, 2, 3, 4, 7, 8, 32, 256, 1000, True,
    False, None, "", "se", "same", "max", "\x1b[2J", "\ud800", "a" * 5000, [], {}, [[]], [[[]]],
]  # fmt: skip
NUMBERS = st.sampled_from([each for each in SPECIAL if not isinstance(each, (str, list, dict))])
USUAL = [1, 2, 3, 4, 5, 8, 0.25, 1e-3, 1.0, True, False, None]
VALUES = st.recursive(
    st.sampled_from(SPECIAL) | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
WORDS = {
    "attention": sorted(ATTENTION), "form": ["basic", "bottleneck"], "norm": ["batch", "group"],
    "shortcut": ["convolution", "average", "subsample"], "antialias": ["none", "average", "blur"],
    "stem_pool": ["max", "max_ceil", "max_same", "max_blur", "average", "convolution"],
    "stem_padding": ["same"], "padding": ["same"], "stride_at": ["conv1", "conv2"],
    "gather": ["average", "convolution"], "pooling": ["attention", "average"],
    "fusion": ["sum", "product", "maximum", "add", "scale", "both"],
    "gate": ["sigmoid", "hard_sigmoid"],
}  # fmt: skip
PREPARED = (
    *(field.name for field in fields(Preprocessing)),
    *("input_size", "crop_pct", "resample", "image_mean", "image_std", "crop_size"),
    *("do_resize", "do_center_crop", "rescale_factor"),
)
FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
BASES = {
    NetworkConfig: {"widths": [8, 16], "depths": [1, 2]},
    BlockConfig: {"in_channels": 8, "out_channels": 16},
    BottleneckConfig: {"in_channels": 8, "out_channels": 16},
}


def value_of(name: str):
    """Values of a field: those that fit its type more often than others."""
    near = st.sampled_from(WORDS[name]) if name in WORDS else st.sampled_from(USUAL)
    return near | st.lists(near, min_size=2, max_size=2) | NUMBERS | VALUES


@st.composite
def configs(draw):
    kind = draw(st.sampled_from(list(BASES)))
    names = [field.name for field in fields(kind)]
    changed = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    values = {**BASES[kind], **{name: draw(value_of(name)) for name in changed}}
    if draw(st.booleans()):
        values["attention"] = draw(st.sampled_from(WORDS["attention"]))
        options = list(ATTENTION[values["attention"]].options)
        some = draw(st.lists(st.sampled_from(options), unique=True)) if options else []
        values["attention_options"] = {name: draw(value_of(name)) for name in some}
    return kind, values


def use(config) -> None:
    schema(config)
    config.describe()
    json.loads(config.to_json())
    with suppress(ArgumentError):  # a size that it cannot have
        graph(config, config.input_size or (32, 32))


def in_time(call, most: float = 1.0):
    """What a call returns, or the message of its ArgumentError. most: seconds it may compute."""
    start = time.process_time()
    try:
        result = call()
    except ArgumentError as error:
        result = str(error)
        assert result.isprintable(), result
        assert len(result) < 3000
    assert time.process_time() - start < most
    return result


@FUZZ
@given(configs())
def test_any_config_is_used_or_refused(drawn):
    kind, values = drawn
    text = json.dumps({"model": kind.model, **values})
    found = in_time(lambda: config_from_json(text))
    if not isinstance(found, str):
        in_time(lambda: use(found))
        assert config_from_json(found.to_json()) == found


@FUZZ
@given(st.sampled_from([*OPTIMIZERS.items(), *SCHEDULES.items()]), st.data())
def test_any_recipe_is_used_or_refused(kind, data):
    name, made = kind
    part = {"name": name, **({"steps": 10} if name == "Cosine" else {})}
    part |= {"milestones": [1, 2]} if name == "Step" else {}
    names = [field.name for field in fields(made)]
    for each in data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []:
        part[each] = data.draw(value_of(each) | st.lists(NUMBERS, max_size=4))
    values = {
        "optimizer": {"name": "SGD"},
        "schedule" if name in SCHEDULES else "optimizer": part,
    }
    for each in data.draw(st.lists(st.sampled_from(["batch_size", "seed", "label_smoothing"]))):
        values[each] = data.draw(VALUES | NUMBERS)
    text = json.dumps(values)
    found = in_time(lambda: Recipe.from_dict(parse_json(text, "the recipe")))
    if not isinstance(found, str):
        assert all(found.rate(step) < 1e77 for step in (0, 1, 10, 2**31))


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(PREPARED),
        VALUES | NUMBERS,
    )
)
def test_any_preprocessing_is_used_or_refused(values):
    for read in (Preprocessing.from_dict, read_preprocessing):
        found = in_time(lambda read=read: read(parse_json(json.dumps(values), "x.json")))
        if not isinstance(found, str):
            assert max(found.size) / found.crop < 2**41
            found.describe()


NETWORK = '{"model": "ResidualAttentionNetwork", '


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NETWORK + '"depths": [1000000000]}', "depths: expected at most 1,000 blocks in all, got"),
        (
            NETWORK + '"depths": [600, 401]}',
            "depths: expected at most 1,000 blocks in all, got 1001",
        ),
        (NETWORK + f'"widths": [{"1," * 1000}1]}}', "widths: expected at most 1,000 values, got"),
        (NETWORK + f'"stem_channels": [{"1," * 1000}1]}}', "stem_channels: expected at most 1,000"),
        (
            NETWORK + '"classes": 2147483648}',
            "classes: expected an integer below 2,147,483,648, got",
        ),
        (NETWORK + '"kernel_size": 2147483649}', "kernel_size: expected an integer below"),
        (NETWORK + f'"classes": {10**400}}}', "classes: expected an integer below"),
        (NETWORK + f'"classes": {LONG}}}', "the config: expected JSON, got"),
        (
            NETWORK + '"bn_eps": 5e-324}',
            "bn_eps: expected a number that float32 holds, from 1.2e-38",
        ),
        (NETWORK + '"bn_eps": 1e299}', "bn_eps: expected a number that float32 holds"),
        (NETWORK + '"bn_eps": 1e400}', "bn_eps: expected a positive number, got inf"),
        (NETWORK + '"bn_eps": NaN}', "bn_eps: expected a positive number, got nan"),
        (NETWORK + '"bn_eps": true}', "bn_eps: expected a positive number, got True"),
        (NETWORK + '"bn_eps": -0.0}', "bn_eps: expected a positive number, got -0.0"),
        (NETWORK + '"strides": [1000000, 1000000, 1, 1]}', "strides: stage 1 has maps that are"),
        (
            NETWORK + '"widths": ' + "[" * 100 + "]" * 100 + "}",
            "at most 32 lists and objects within",
        ),
        ("[" * 100_000 + "]" * 100_000, "at most 32 lists and objects within each other"),
        (NETWORK + '"classes": 1, "classes": 2}', "has 'classes' more than once in one object"),
        (NETWORK + f'"form": "{"a" * 2000}"}}', "... (2,000 characters)"),
        (NETWORK + '"form": "\\u001b[2J"}', r"got '\x1b[2J'"),
        (" " * (MOST_TEXT + 1), "expected at most 1,048,576 characters of JSON, got 1,048,577"),
        (
            NETWORK + '"attention": "ge", "attention_options": {"extent": 1073741824, '
            '"gather": "convolution"}}',
            "extent: expected at most 256 pixels, got 1073741824",
        ),
        (
            NETWORK + '"attention": "eca", "attention_options": {"gamma": 1e-37}}',
            "gamma, beta: kernel_size: expected an integer below",
        ),
        (
            NETWORK + '"widths": [2147483629], "depths": [1], "attention": "mhsa", '
            '"attention_options": {"size": 8, "heads": 2147483630}}',
            "heads: 2147483630 does not divide 2147483629 channels; one of 1, 2147483629 would",
        ),
    ],
    ids=lambda value: "",
)
def test_one_clear_error_names_the_field_and_the_limit(text, message):
    found = in_time(lambda: config_from_json(text))
    assert isinstance(found, str)
    assert message in found


@pytest.mark.parametrize("options", [{}, {"drop_path": 0.1, "attention": "bam"}])
def test_the_greatest_network_takes_no_longer_than_seconds(options):
    """No time grows with the square of the number of blocks."""
    config = in_time(lambda: NetworkConfig(widths=(8,), depths=(MOST_BLOCKS,), **options), 5)
    in_time(lambda: schema(config), 5)
    in_time(lambda: graph(config, (32, 32)), 10)
    in_time(lambda: graph(config, (32, 32), opened=False), 10)


def test_a_million_unknown_fields_are_refused_fast():
    values = {f"field {number}": 0 for number in range(10**6)}
    found = in_time(lambda: NetworkConfig.from_dict(values), 2)
    assert "no field 'field 0', 'field 1', 'field 10', " in found
    assert "'field 10000' and 999,994 more; its fields are in_channels" in found


def test_python_values_that_no_json_holds_are_refused():
    nested: list[object] = []
    for _ in range(10**5):
        nested = [nested]
    for values in ({"widths": nested}, {"attention_options": {"kernel_size": nested}}):
        assert isinstance(in_time(lambda values=values: NetworkConfig(**values)), str)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a" * 10**6, "'" + "a" * 50 + "'... (1,000,000 characters)"),
        ("\x1b]0;x\x07\n", r"'\x1b]0;x\x07\n'"),
        ("\u202e", r"'\u202e'"),
        (10**5000, "an integer of 16,610 bits"),
        ([10**5000], "a list that is too large to show"),
        (float("nan"), "nan"),
    ],
    ids=lambda value: "",
)
def test_quote_is_short_and_has_one_line(value, expected):
    assert quote(value) == expected


def test_quote_of_a_long_list_is_short():
    assert len(quote(list(range(10**6)))) < 200


@pytest.mark.parametrize("depth", [DEEPEST, DEEPEST + 1])
def test_json_may_be_so_deep(depth):
    text = "[" * depth + "]" * depth
    if depth == DEEPEST:
        assert isinstance(parse_json(text, "x"), list)
    else:
        with pytest.raises(ArgumentError, match="x: expected JSON with at most 32 lists"):
            parse_json(text, "x")


def test_zero_has_no_sign():
    for name in ("bn_decay", "drop_path"):
        assert str(getattr(NetworkConfig(**{name: -0.0}), name)) == "0.0"


def test_a_factor_that_makes_infinite_rates_is_refused():
    values = {"name": "Step", "milestones": list(range(1, 100)), "factor": 1e30}
    with pytest.raises(ArgumentError, match=r"factor: 1e\+30 at each of 99 milestones makes"):
        Recipe.from_dict({"optimizer": {"name": "SGD"}, "schedule": values})
