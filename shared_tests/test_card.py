"""Cards: what they say, where they are kept, and that a wrong one is seen."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.card import CARD_VERSION, Card
from resattn.checking.draws import random_arrays
from resattn.cli.check_card import embed_card, find_place
from resattn.reporting.card import to_markdown
from shared_tests.files_cases import FORMATS, SMALL
from shared_tests.test_cli import fails, run
from shared_tests.training_cases import RECIPES
from weights import BlockConfig, NetworkConfig, WeightsError, preset, read, schema, write
from weights.convert import BFLOAT16
from weights.errors import ArgumentError, MissingFileError
from weights.files.formats import read_header
from weights.files.training import TrainingState, trainable, write_training
from weights.fingerprint import fingerprint_file, fingerprint_weights

NETWORK = NetworkConfig(2, 7, (4,), (1,), attention="none")
TENSOR = "eval output output"


def card_of(arrays, **changes):
    """A card of these weights, as `make_card` makes it."""
    row = {"framework": "torch cpu", "dtype": "float64", "output": 2e-16, "distance": 1e-16}
    row |= {"explained": 2e-16, "times": 0.5, "limit": 5.0, "tensor": TENSOR, "compared": 3}
    values = {
        "version": CARD_VERSION,
        "network": "a block",
        "file": "b.npz",
        "file_sha256": None,
        "weights_sha256": fingerprint_weights(arrays),
        "arrays": len(arrays),
        "numbers": 9,
        "dtypes": ["float32"],
        "ok": True,
        "verdict": "The same function: all 3 comparisons.",
        "exact": True,
        "failures": [],
        "images": "8 random images",
        "command": "resattn check b.npz --card card.md",
        "environment": ["torch cpu: torch 2"],
        "notes": [],
        "rows": [row | {"ok": True, "decides": True}],
        "agreements": [{"framework": "a", "dtype": "b", "images": 2, "first": 2, "five": 1}],
    }
    return Card.from_dict(values | changes)


@pytest.fixture
def small(tmp_path):
    """A file of weights with a card in it."""
    arrays = random_arrays(SMALL)
    write(tmp_path / "b.npz", SMALL, arrays, card=card_of(arrays).to_json())
    return tmp_path / "b.npz"


def check_with_card(file, *options):
    result = run("check", file, "--card", file.with_name("card.md"), *options)
    json_file = file.with_name("card.json")
    again = run("check", file, "--card", json_file, *options, "--force")
    assert result.exit_code == again.exit_code, again.output
    values = json.loads(json_file.read_text(), parse_constant=pytest.fail)
    card = Card.from_json(json_file.read_text(), "card.json")
    assert card.to_dict() == values
    return result, file.with_name("card.md").read_text(), card


# What a card says


def test_card_of_a_network(all_frameworks, tmp_path):
    arrays = random_arrays(NETWORK)
    write(tmp_path / "net a|b.safetensors", NETWORK, arrays)
    options = ("--size", "9x8", "--batch", "3", "--seed", "1", "--all", "--json", tmp_path / "r")
    result, text, card = check_with_card(tmp_path / "net a|b.safetensors", *options)
    assert result.exit_code == 0, result.output
    assert f"Wrote {tmp_path / 'card.md'}." in result.output
    assert len(text.splitlines()) < 60
    lines = text.splitlines()
    assert lines[0].startswith("# Check of a network of 1 blocks, widths 4")
    assert re.fullmatch(
        r"\*\*The same function: all \d+ comparisons in float64 are within .*\*\*", lines[2]
    )
    assert "held the weights of the file to the last bit" in lines[4]
    assert "and with each other" in lines[4]
    assert "3 random images of 2 x 9 x 8 (channels x height x width), seed 1" in lines[4]
    for name in ("torch cpu", "jax cpu", "tf cpu"):
        assert re.search(rf"^\| {name} \| float64, decides \| .* \| 5 \| .* \| ok \|$", text, re.M)
        assert re.search(rf"^\| {name} \| float32 \| .* \| ok \|$", text, re.M)
        assert f"| {name} | float32 | 3 of 3 images | 3 of 3 images |" in text
        assert f"- {name}: " in text
    assert "weights (" in text
    assert f"`{fingerprint_weights(arrays)}`" in text
    own_hash = hashlib.sha256((tmp_path / "net a|b.safetensors").read_bytes()).hexdigest()
    assert rf"- file net a\|b.safetensors: `{own_hash}`" in text
    command = "resattn check 'net a|b.safetensors' --size 9x8 --batch 3 --seed 1 --card card.md"
    assert lines[-1] == f"    {command}"
    assert str(tmp_path) not in text
    assert [(row.framework, row.dtype, row.decides) for row in card.rows] == [
        (name, dtype, dtype == "float64")
        for dtype in ("float64", "float32")
        for name in ("torch cpu", "jax cpu", "tf cpu")
    ]
    assert all(row.ok and row.output < 1e-5 and row.times <= row.limit == 5 for row in card.rows)
    assert card.file_sha256 == own_hash
    assert card.weights_sha256 == fingerprint_weights(arrays)
    assert (card.arrays, card.dtypes) == (len(arrays), ("float32",))
    assert card.numbers == sum(array.size for array in arrays.values())


def test_card_of_a_block_on_images_of_ones_own(torch, tmp_path):
    """bfloat16 is widened for the check; the hash is that of the file."""
    config = BlockConfig(2, 3, 3, attention="none")
    arrays = {name: each.astype(BFLOAT16) for name, each in random_arrays(config).items()}
    write(tmp_path / "b.npz", config, arrays)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(1, 2, 6, 5)))
    (tmp_path / "c.json").write_text(config.to_json())
    options = ("--inputs", tmp_path / "x.npy", "--frameworks", "torch")
    options += ("--config", tmp_path / "c.json")
    result, text, card = check_with_card(tmp_path / "b.npz", *options)
    assert result.exit_code == 0, result.output
    assert card.agreements == ()
    assert "top-1" not in text
    assert "and with each other" not in text
    assert "on 1 image of 2 x 6 x 5 (channels x height x width)." in text
    assert card.dtypes == ("bfloat16",)
    assert card.weights_sha256 == fingerprint_weights(arrays)
    words = "resattn check b.npz --config c.json --frameworks torch --inputs x.npy --card card.json"
    assert card.command == words


def test_card_of_a_network_without_classes(torch, tmp_path):
    config = NetworkConfig(2, 0, (4,), (1,), attention="none")
    write(tmp_path / "n.npz", config, random_arrays(config))
    result, _, card = check_with_card(tmp_path / "n.npz", "--frameworks", "torch", "--size", "8x8")
    assert result.exit_code == 0, result.output
    assert card.agreements == ()


def test_card_of_a_failure(torch, tmp_path, monkeypatch):
    monkeypatch.setattr("pytorch_impl.block.relu", lambda x: x * (x > 0) * 1.001)
    config = BlockConfig(2, 3, 3, attention="none")
    write(tmp_path / "b.npz", config, random_arrays(config))
    result, text, card = check_with_card(tmp_path / "b.npz", "--frameworks", "torch")
    assert result.exit_code == 1
    assert text.splitlines()[2].startswith("**FAILED: not the same function: ")
    assert "| OVER |" in text
    assert not card.ok
    assert 0 < len(card.failures) <= 5
    assert text.splitlines()[4].startswith("- ")
    result = run("inspect", tmp_path / "b.npz")
    assert not any(line.startswith("card") for line in result.output.splitlines())


def test_card_of_what_is_not_finite(torch, tmp_path):
    arrays = random_arrays(SMALL)
    arrays["conv1.weight"][0, 0, 0, 0] = np.nan
    write(tmp_path / "b.npz", SMALL, arrays)
    result, text, card = check_with_card(tmp_path / "b.npz", "--frameworks", "torch")
    assert result.exit_code == 1
    assert "**FAILED: conv1.weight holds nan at (0, 0, 0, 0)" in text
    assert "| framework |" not in text
    assert (card.ok, card.rows) == (False, ())


def test_what_a_card_cannot_know():
    """Numbers that JSON does not have, and characters that Markdown would take for its own."""
    arrays = random_arrays(SMALL)
    card = card_of(arrays, network="a_b <i> _x_ `c` [d](e) *f*", exact=False)
    row = replace(card.rows[0], distance=float("nan"), times=float("inf"), limit=None)
    card = replace(card, rows=(row,))
    text = to_markdown(card)
    assert text.startswith(r"# Check of a_b \<i\> \_x\_ \`c\` \[d\](e) \*f\*")
    assert "| 2.0e-16 | not finite | 2.0e-16 | not finite | not finite |" in text
    assert "held OTHER weights than the file" in text
    assert Card.from_json(card.to_json(), "it") == card
    json.loads(card.to_json(), parse_constant=pytest.fail)


# Hashes


def test_hash_of_weights_by_hand():
    """As docs/card.md says it."""
    arrays = {"b": np.arange(6, dtype=">f4").reshape(2, 3).T, "a": np.array(1.5)}
    first = hashlib.sha256(b"float64 ()" + np.array(1.5, "<f8").tobytes()).hexdigest()
    values = np.array([0, 3, 1, 4, 2, 5], "<f4").tobytes()
    second = hashlib.sha256(b"float32 (3, 2)" + values).hexdigest()
    whole = hashlib.sha256(f"a {first}\nb {second}".encode()).hexdigest()
    assert fingerprint_weights(arrays) == whole
    assert fingerprint_weights({**arrays, "a": np.array(1.5, "f4")}) != whole
    assert fingerprint_weights({**arrays, "b": arrays["b"].T}) != whole


# Cards in files


@pytest.mark.parametrize("name", FORMATS)
def test_embedded_in_every_format(tmp_path, name):
    arrays = random_arrays(SMALL)
    origin = {"file": "x.pt", "license": "mit"}
    write(tmp_path / name, SMALL, arrays, origin=origin)
    before = read_header(tmp_path / name)
    for verdict in ("The first.", "The second."):  # the second one takes the place of the first
        card = card_of(arrays, verdict=verdict)
        embed_card(tmp_path / name, card)
        found = read_header(tmp_path / name)
        assert Card.from_json(found.label["card"], "it") == card
    assert found.config == before.config
    assert found.origin == origin
    sums = (json.loads(each.label["checksums"])["arrays"] for each in (before, found))
    assert next(sums) == next(sums)
    held = read(tmp_path / name)[1]
    assert {key: each.tobytes() for key, each in held.items()} == {
        key: each.tobytes() for key, each in arrays.items()
    }
    output = run("inspect", tmp_path / name).output
    assert "card: The second.\n" in output
    assert "not compared with the values here (--values does)" in output
    output = run("inspect", tmp_path / name, "--values").output
    assert f"card: weights {card.weights_sha256}: those in this file\n" in output


@pytest.mark.parametrize("name", FORMATS)
def test_port_keeps_a_card(small, tmp_path, name):
    result = run("port", small, tmp_path / f"new-{name}")
    assert result.exit_code == 0, result.output
    assert "The card in b.npz is kept: the weights are the same, bit for bit." in result.output
    label = read_header(tmp_path / f"new-{name}").label
    assert label["card"] == read_header(small).label["card"]


def test_embed(torch, tmp_path):
    write(tmp_path / "b.safetensors", SMALL, random_arrays(SMALL))
    options = ("--frameworks", "torch", "--embed")
    result, text, card = check_with_card(tmp_path / "b.safetensors", *options)
    assert result.exit_code == 0, result.output
    path = tmp_path / "b.safetensors"
    assert f"Put the card into {path}: its weights are the same, bit for bit." in result.output
    assert card.file_sha256 == fingerprint_file(path)  # of the file that is to be published
    held = Card.from_json(read_header(path).label["card"], "it")
    assert held == replace(card, file_sha256=None)
    assert "--embed" not in text
    output = run("inspect", path).output
    assert "card: The same function: all " in output
    assert "checked in torch cpu float64, torch cpu float32\n" in output
    assert "card: made by resattn check b.safetensors --frameworks torch --card " in output


def test_a_card_of_other_weights_is_seen(small, tmp_path):
    arrays = random_arrays(SMALL, seed=1)
    write(tmp_path / "other.npz", SMALL, arrays, card=read_header(small).label["card"])
    output = run("inspect", tmp_path / "other.npz", "--values").output
    assert ": NOT those in this file, so the card is about other weights\n" in output
    output = run("port", tmp_path / "other.npz", tmp_path / "new.safetensors").output
    assert "The card in other.npz was left out: it is about other weights." in output
    assert "card" not in read_header(tmp_path / "new.safetensors").label


def test_a_changed_card_is_damage(tmp_path):
    path, arrays = tmp_path / "b.safetensors", random_arrays(SMALL)
    write(path, SMALL, arrays, card=card_of(arrays).to_json())
    path.write_bytes(path.read_bytes().replace(b"all 3", b"all 9"))
    with pytest.raises(WeightsError, match="is damaged: its card is not the one that was written"):
        read_header(path)


def test_port_leaves_out_a_card(tmp_path):
    arrays = random_arrays(NETWORK)
    config = replace(NETWORK, attention="none")
    write(tmp_path / "n.npz", config, arrays, card=card_of(arrays).to_json())
    output = run("port", tmp_path / "n.npz", tmp_path / "f.npz", "--fold").output
    message = "The card in n.npz was left out: it is about the weights before they were folded."
    assert message in output
    assert "card" not in read_header(tmp_path / "f.npz").label


def test_port_to_a_dialect_leaves_out_a_card(tmp_path):
    config = preset("resnet20")
    arrays = random_arrays(config)
    write(tmp_path / "n.npz", config, arrays, card=card_of(arrays).to_json())
    options = ("--to-dialect", "cifar-resnet")
    output = run("port", tmp_path / "n.npz", tmp_path / "t.safetensors", *options).output
    assert "left out: a file with the names of cifar-resnet has no place for it." in output


HOSTILE = {
    "no JSON": ("{oops", "expected JSON"),
    "a list": ("[]", "expected an object, got []"),
    "huge": (f'"{"x" * 2**20}"', "expected at most 1,048,576 characters of JSON"),
    "deep": ("[" * 9999 + "]" * 9999, "expected JSON"),
    "no version": ("{}", "version: expected a positive integer, got None"),
    "newer": ('{"version": 2}', "has version 2, and this resattn reads version 1; read it with"),
    "fields": ('{"version": 1, "x": 1}', "Card: no field 'x'; its fields are version, network"),
    "missing": ('{"version": 1}', "Card: missing network, file"),
}
WRONG = {
    "network": (5, "network: expected one line of at most 2,000 characters that print, got 5"),
    "verdict": ("a\ncard: b", r"verdict: expected one line of at most 2,000 characters that print"),
    "command": ("\x1b[2J", "command: expected one line of at most 2,000 characters that print"),
    "file": ("x" * 2001, "file: expected one line of at most 2,000 characters that print"),
    "weights_sha256": ("ABC", "weights_sha256: expected the 64 hexadecimal digits of a SHA-256"),
    "file_sha256": ("g" * 64, "file_sha256: expected the 64 hexadecimal digits of a SHA-256"),
    "numbers": (-1, "numbers: expected an integer of at least 0, got -1"),
    "ok": ("yes", "ok: expected True or False, got 'yes'"),
    "environment": ("x", "environment: expected a list of at most 200 entries, got 'x'"),
    "notes": (["x"] * 201, "notes: expected a list of at most 200 entries"),
    "rows": ([5], "rows: expected objects, got 5"),
    "agreements": ([{"images": 1}], "agreements: CardAgreement: missing framework, dtype"),
}


def shown(tmp_path, text, message):
    """inspect says that it cannot read the card, and port leaves it out."""
    write(tmp_path / "b.npz", SMALL, random_arrays(SMALL), card=text)
    result = run("inspect", tmp_path / "b.npz", "--values")
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("card:")]
    assert len(lines) == 1
    assert lines[0].startswith("card: cannot be read (the card in b.npz: ")
    assert message in lines[0]
    assert len(lines[0]) < 500
    output = run("port", tmp_path / "b.npz", tmp_path / "c.npz", "--force").output
    assert "The card in b.npz was left out: it cannot be read (the card in b.npz: " in output
    assert "card" not in read_header(tmp_path / "c.npz").label


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_card_that_is_none(tmp_path, kind):
    shown(tmp_path, *HOSTILE[kind])


@pytest.mark.parametrize("field", WRONG)
def test_a_card_with_a_wrong_field(tmp_path, field):
    value, message = WRONG[field]
    values = card_of(random_arrays(SMALL)).to_dict()
    shown(tmp_path, json.dumps(values | {field: value}), message)


@pytest.mark.parametrize("value", ["x", -1, True, [1]])
def test_a_card_with_a_wrong_number(tmp_path, value):
    values = card_of(random_arrays(SMALL)).to_dict()
    values["rows"][0]["times"] = value
    message = "rows: times: expected a number of at least 0, or none where it is not finite, got "
    shown(tmp_path, json.dumps(values), message)


# Options


def test_card_options(small, tmp_path):
    path = tmp_path / "card.md"
    for option in (("--dtype", "float32"), ("--trace",), ("--grid",), ("--html", "x.html")):
        message = f"--card: cannot be combined with {option[0]}"
        fails(ArgumentError, message, "check", "--card", path, *option)
    message = "--golden: cannot be combined with --card"
    fails(ArgumentError, message, "check", "--golden", "--card", path)
    fails(ArgumentError, "--card: needs FILE, which was not", "check", "--card", path)
    fails(ArgumentError, "--embed: needs --card, which was not", "check", small, "--embed")
    embed = ("check", small, "--card", path, "--embed")
    fails(ArgumentError, "--embed: cannot be combined with --part", *embed, "--part", "x")
    message = "--card: expected a .md or a .json file, got 'card.txt'"
    fails(ArgumentError, message, "check", small, "--card", tmp_path / "card.txt")
    message = "does not exist"
    fails(MissingFileError, message, "check", small, "--card", tmp_path / "no" / "card.md")


def test_a_live_model_has_no_card(torch, small, tmp_path):
    options = ("--model", "shared_tests.handmade.sketch_torch:Block", "--card", tmp_path / "c.md")
    result = run("check", small, *options)
    assert isinstance(result.exception, ArgumentError)
    assert "--card" in str(result.exception)


def test_files_without_a_place_for_a_card(torch, tmp_path):
    arrays = random_arrays(SMALL)
    path = tmp_path / "b.npz"
    np.savez(path, **arrays, resattn=np.array(SMALL.to_json()))  # of version 1
    embed = ("--card", tmp_path / "card.md", "--embed")
    before = path.read_bytes()
    message = "--embed: b.npz has no place for a card, since resattn did not write it, or an old"
    fails(ArgumentError, message, "check", path, *embed)
    assert path.read_bytes() == before
    assert not (tmp_path / "card.md").exists()


def test_a_training_state_keeps_what_it_has(torch, tmp_path):
    arrays = random_arrays(SMALL)
    recipe = RECIPES["adam-cosine"]
    own = {p.name: np.zeros(p.shape, "float32") for p in trainable(SMALL)}
    moments = dict.fromkeys(recipe.optimizer.moments, own)
    path = tmp_path / "run.safetensors"
    write_training(path, TrainingState(SMALL, recipe, arrays, moments, 1, 100))
    before = path.read_bytes()
    message = "--embed: run.safetensors holds more than the weights of a model, such as the state"
    fails(ArgumentError, message, "check", path, "--card", tmp_path / "card.md", "--embed")
    assert path.read_bytes() == before


def test_a_file_on_a_hub_gets_no_card():
    with pytest.raises(ArgumentError, match=r"--embed: hf:/.* is on a hub; port it to a file"):
        find_place(Path("hf://timm/resnet18"))


def test_a_file_that_changed_meanwhile(small):
    before = small.read_bytes()
    card = card_of(random_arrays(SMALL, seed=1))
    with pytest.raises(WeightsError, match=r"--embed: b.npz changed while it was checked"):
        embed_card(small, card)
    assert small.read_bytes() == before
    assert len(schema(SMALL)) == card.arrays
