"""What the README says is so: its snippets run, its commands exist, its files are there."""

import re
from pathlib import Path

import pytest

from resattn.checking.tolerances import TOLERANCES
from resattn.cli.app import app
from shared_tests.libraries import absence
from weights.attention import ATTENTION

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(all_frameworks, number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "import timm" in SNIPPETS[number] and (reason := absence("timm")):
        pytest.skip(reason)
    exec(compile(SNIPPETS[number], f"README snippet {number}", "exec"), {})


def test_the_readme_has_the_main_snippets():
    together = "\n".join(SNIPPETS)
    for name in (
        "ResidualBlockWithAttention(64, 128, 3, 2",
        "port(block",
        "save(",
        "read(",
        "crosscheck(",
        "export(",
    ):
        assert name in together


def test_commands_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z]+)\b", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in re.findall(r"^    (?:\$ )?resattn (\w+)", README, re.MULTILINE):
        assert command in {command.callback.__name__ for command in app.registered_commands}


def test_files_exist():
    for path in re.findall(r"`([\w.]+/[\w./-]*)`", README) + re.findall(
        r'(?:src="|\]\()([\w./-]+)', README
    ):
        assert (ROOT / path).exists(), path


def test_tolerances_are_those_of_the_table():
    rows = re.findall(r"^\| (float\d+) (\w+) \| ([\de-]+) \|", README, re.MULTILINE)
    assert {(dtype, quantity): float(limit) for dtype, quantity, limit in rows} == TOLERANCES


def test_every_attention_kind_is_in_the_table():
    rows = re.findall(
        r"^\| `(\w+)` \|([^|]*)\|", README.split("### Attention")[1].split("###")[0], re.MULTILINE
    )
    assert [kind for kind, _ in rows] == [kind for kind in ATTENTION if ATTENTION[kind].built_in]
    for kind, source in rows:
        assert source.strip().split(" (")[0] == ATTENTION[kind].source.split(",")[0]
