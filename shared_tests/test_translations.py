"""The catalogue of each language, and what the commands say in Chinese."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from string import Formatter

import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from resattn.checking.draws import random_arrays, random_input
from resattn.cli.app import COMMANDS, app
from resattn.cli.catalogue import (
    catalogue_of,
    compile_catalogue,
    list_sentences,
    merge_sentences,
    read_catalogue,
    write_catalogue,
)
from resattn.cli.help_words import list_help_texts, translate_usage
from resattn.drawing.chinese import CHARACTERS, FONTS, list_characters, list_latin
from resattn.drawing.pictures import scene_of
from resattn.drawing.sizes import measure_text
from resattn.drawing.svg import svg
from resattn.oracle import evaluation
from resattn.translations import extract_sentences, speaking
from weights import BlockConfig, write
from weights.errors import ArgumentError
from weights.language import Translated, in_english, join_texts, mark, say

BLOCK = BlockConfig(3, 5, 3, 2, attention_options={"hidden_channels": 2})
CHINESE = re.compile("[\u4e00-\u9fff]")
# Five words of English in a row are a sentence, or a part of one.
SENTENCE = re.compile(r"\b[A-Za-z]{2,}(?: [a-z]{1,}){4,}")


def has_chinese(text):
    return bool(CHINESE.search(text))


def run(*arguments, status=0, **options):
    result = CliRunner().invoke(app, [*map(str, arguments), "--lang", "zh"], **options)
    assert result.exit_code == status, result.output + repr(result.exception)
    return result


def fields(text):
    return {found[1:] for found in Formatter().parse(text) if found[1]}


# The catalogue


@pytest.fixture(scope="module")
def catalogue():
    return {each.id: each for each in read_catalogue(catalogue_of("zh")) if each.id}


def test_the_catalogue_has_the_sentences_of_the_tree(catalogue):
    """`make translations` adds new ones and leaves out old ones."""
    assert sorted(catalogue) == sorted(list_sentences())


def test_everything_is_translated(catalogue):
    assert [each.id for each in catalogue.values() if not each.string or each.fuzzy] == []


def test_the_values_in_a_sentence_are_those_of_its_translation(catalogue):
    differing = [
        each.id
        for each in catalogue.values()
        if not (each.id.startswith("[default") or fields(each.id) == fields(each.string))
    ]
    assert differing == []


def test_what_an_error_is_about_comes_first(catalogue):
    """`resattn.cli.config_options.name_options` reads it, up to the colon."""
    start = re.compile(r"(\{(?:name|option|file|source|model|text)\}|--[a-z-]+|[a-z_]+):(?= )")
    about = {each.id: found[0] for each in catalogue.values() if (found := start.match(each.id))}
    errors = [text for text in about if "expected" in text or "got" in text]
    assert len(errors) > 40
    wrong = [text for text in errors if not catalogue[text].string.startswith(about[text])]
    assert wrong == []


def test_the_files_are_what_they_are_made_of():
    path = catalogue_of("zh")
    assert path.read_bytes() == write_catalogue(merge_sentences("zh"))
    assert path.with_suffix(".mo").read_bytes() == compile_catalogue(path)


def test_which_texts_are_sentences():
    source = """
say("one", value=1)
TABLE = {"kind": mark("two " "parts")}
self.say("key of another table")
say(variable)
print("no sentence")
"""
    assert sorted(extract_sentences(source)) == ["one", "two parts"]


def test_all_help_is_in_the_catalogue(catalogue):
    assert {text for text in list_help_texts(get_command(app)) if text} <= set(catalogue)


# Sentences


def test_a_translation_remembers_its_english_text():
    with speaking("zh"):
        inner = say(mark("a block"))
        said = say("{file}: {arrays}, {numbers:,} numbers, {dtypes}",
                   file="a", arrays=inner, numbers=1000, dtypes="float32")  # fmt: skip
        joined = join_texts(("x", said), say(" and "))
        assert isinstance(said, Translated)
        assert say(said) is said
    assert str(said) == "a: 残差块，1,000 个数，float32"
    assert in_english([said, {"of": joined}]) == [
        "a: a block, 1,000 numbers, float32",
        {"of": "x and a: a block, 1,000 numbers, float32"},
    ]


def test_english_texts_are_plain():
    assert type(say("a {thing}", thing="block")) is str
    assert type(join_texts(["a", "b"], ", ")) is str


def test_a_sentence_without_translation_stays_english():
    with speaking("zh"):
        assert say("no such sentence, {count}", count=3) == "no such sentence, 3"
        assert say("") == ""


def test_an_unknown_language():
    message = "--lang: expected one of en, zh, got 'fr'"
    with pytest.raises(ArgumentError, match=message), speaking("fr"):
        pass


# Commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zh")
    arrays, x = random_arrays(BLOCK), random_input(BLOCK, (9, 8), 4, "float32", 0)
    write(folder / "block.safetensors", BLOCK, arrays)
    np.save(folder / "x.npy", x)
    other = evaluation.run(replace(BLOCK, bn_eps=1e-3), arrays, x, training=False)
    np.save(folder / "y.npy", other.output)
    np.save(folder / "noise.npy", np.random.default_rng(0).normal(size=other.output.shape))
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        "inspect block.safetensors --values",
        "port block.safetensors new.npz --force",
        "explain block.safetensors",
        "draw block.safetensors",
        "draw --config se-resnet50",
        "check block.safetensors --frameworks torch --all",
        "check block.safetensors --frameworks torch --dtype bfloat16",
        "check block.safetensors --frameworks torch --trace",
        "drift block.safetensors --frameworks torch --oracle --steps 2 --dtype float64",
    ],
)
def test_what_commands_print(torch, folder, monkeypatch, arguments):
    monkeypatch.chdir(folder)
    output = run(*arguments.split()).stdout
    assert has_chinese(output)
    config = re.compile(r"\{.*\}")  # as JSON
    assert SENTENCE.findall(config.sub("", output)) == []


def test_a_cause_is_explained_and_programs_read_english(torch, folder, monkeypatch):
    monkeypatch.chdir(folder)
    command = "check block.safetensors --frameworks torch --inputs x.npy --expected y.npy --json"
    output = run(*command.split(), "zh.json", status=1).output
    assert "批归一化的 eps：eps 为 0.001，应为 1e-05" in output
    assert SENTENCE.findall(output) == []
    CliRunner().invoke(app, [*command.split(), "en.json"])
    chinese, english = (json.loads((folder / f"{each}.json").read_text()) for each in ("zh", "en"))
    assert chinese == english
    assert chinese["findings"][0]["explanations"][0]["cause"] == "batch norm eps"


def test_cards_and_scripts_are_in_english(torch, folder, monkeypatch):
    monkeypatch.chdir(folder)
    card = "check block.safetensors --frameworks torch --card"
    script = "check block.safetensors --frameworks torch --inputs x.npy --expected y.npy --reduce"
    for command, suffix, status in ((card, "md", 0), (script, "py", 1)):
        run(*command.split(), f"zh.{suffix}", status=status)
        CliRunner().invoke(app, [*command.split(), f"en.{suffix}"])
        texts = [(folder / f"{each}.{suffix}").read_text() for each in ("zh", "en")]
        chinese, english = (text.replace(" --lang zh", "").replace("zh.", "en.") for text in texts)
        assert chinese == english


def test_a_report_that_fails(torch, folder, monkeypatch):
    monkeypatch.chdir(folder)
    command = "check block.safetensors --frameworks torch --inputs x.npy --expected noise.npy"
    output = run(*command.split(), status=1).output
    assert "无法解释：没有已知的原因会算出这个结果" in output
    assert SENTENCE.findall(output) == []


@pytest.mark.parametrize("command", ["", *(command.__name__ for command in COMMANDS)])
def test_help(command):
    output = run(*command.split(), "--help").output
    assert "用法：" in output
    assert "选项" in output
    assert "显示本帮助并退出" in output
    words = re.sub(r"[│╭╮╰╯─]", " ", output)
    assert SENTENCE.findall(re.sub(r"\s+", " ", words)) == []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("No such option: --sise", "没有选项：--sise"),
        ("No such option: --a (Possible options: --b, --c)", "没有选项：--a（可能是：--b, --c）"),
        ("Missing argument 'SOURCE'.", "缺少参数 'SOURCE'。"),
        ("No such command 'x'. Did you mean 'y'?", "没有命令 'x'。 是不是想输入 'y'？"),
        ("something else", "something else"),
    ],
)
def test_usage_errors(message, expected):
    with speaking("zh"):
        assert translate_usage(message) == expected


def speak(*arguments, **environment):
    cleared = {"LC_ALL": "", "LC_MESSAGES": "", "LANG": "", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-m", "resattn", *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, **cleared, **environment},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ("inspect nowhere.pt", {"LANG": "zh_CN.UTF-8"}, "nowhere.pt: 没有这个文件"),
        ("inspect nowhere.pt --lang zh", {}, "nowhere.pt: 没有这个文件"),
        ("--lang=zh inspect nowhere.pt", {}, "nowhere.pt: 没有这个文件"),
        ("inspect nowhere.pt --lang en", {"LANG": "zh_CN.UTF-8"}, "there is no such file"),
        ("inspect nowhere.pt", {}, "there is no such file"),
        ("check --size 8 --lang zh", {}, "--size: 应为“高x宽”"),
        ("draw --config resnet99 --lang zh", {}, "--config: 应为预设"),
        ("draw --to a.xyz --lang zh", {}, "a.xyz: 无法画成 .xyz"),
        ("check --lang fr", {}, "--lang: expected one of en, zh, got 'fr'"),
        ("port --lang zh", {}, "缺少参数"),
        ("", {"LANG": "zh_CN.UTF-8"}, ""),  # help
    ],
)
def test_errors(arguments, environment, expected):
    status, output, errors = speak(*arguments.split(), **environment)
    assert status == 2
    assert output == b"" or (not arguments and has_chinese(output.decode()))
    assert expected in errors.decode()


def test_english_where_an_error_or_help_cannot_be_printed():
    environment = {"LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": "latin-1"}
    note = b"in English, because the encoding of the output, iso8859-1,"
    status, _, errors = speak("inspect", "nowhere.pt", **environment)
    assert status == 2
    assert errors.count(note) == 1
    assert b"nowhere.pt: there is no such file" in errors
    status, output, errors = speak("draw", "--help", **environment)
    assert (status, errors.count(note)) == (0, 1)
    assert b"Draw a block with its attention" in output


def test_a_picture_on_a_terminal_with_a_code_page():
    """GBK has Chinese characters, but not all signs of a picture."""
    status, output, errors = speak("draw", LANG="zh_CN.GBK", PYTHONIOENCODING="gbk")
    assert (status, errors) == (0, b"")
    assert "bn1  批归一化" in output.decode("gbk")
    assert b"?" not in output


# Pictures


def test_the_fonts_have_all_characters_of_pictures():
    font = pytest.importorskip("fontTools.ttLib")
    characters = CHARACTERS.read_text(encoding="utf-8").strip()
    assert set(list_characters()) == set(characters)
    for path in sorted(FONTS.glob("*.otf")):
        known = font.TTFont(path).getBestCmap()
        assert [each for each in characters + list_latin() if ord(each) not in known] == [], path


def test_a_picture_names_a_chinese_font_and_measures_its_characters():
    with speaking("zh"):
        drawn = svg(scene_of(BLOCK))
    assert ">批归一化</text>" in drawn
    assert "Noto Sans CJK SC" in drawn
    assert "Noto Sans CJK SC" not in svg(scene_of(BLOCK))
    assert measure_text("批归一化") == 4 * measure_text("批") == 4 * 12


def test_a_picture_in_chinese_needs_no_fonts_of_the_system():
    printing = pytest.importorskip("resattn.drawing.printing")
    pytest.importorskip("resvg_py")
    with speaking("zh"):
        drawn = svg(scene_of(BLOCK), "light")
    assert printing._has_glyphs(drawn)
    empty = drawn.replace("批归一化", "")
    assert printing.png(drawn, 1) != printing.png(empty, 1)
