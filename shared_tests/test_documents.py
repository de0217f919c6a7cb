"""The answer about the sketch in docs/ is what our commands say of it today, in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resattn.documents import explained
from resattn.documents.explained import FAULTY, PAGES, Sketch, make_page, make_pictures
from resattn.drawing.svg import svg
from weights.errors import FileError

ROOT = Path(__file__).parent.parent
COMMAND = "is not what `make documents` makes; run it and look at what changed"


@pytest.fixture(scope="module")
def sketch():
    pytest.importorskip("torch")
    return Sketch(ROOT)


@pytest.mark.parametrize("language", PAGES)
def test_the_answer_is_up_to_date(torch, sketch, language):
    page = PAGES[language]
    assert (ROOT / page).read_text(encoding="utf-8") == make_page(sketch, language), (
        f"{page} {COMMAND}"
    )


def test_the_pictures_are_up_to_date(torch, sketch):
    pictures = make_pictures(sketch)
    assert len(pictures) == 2
    for path, scene in pictures.items():
        assert (ROOT / path).read_text(encoding="utf-8") == svg(scene), f"{path} {COMMAND}"


SAID = {
    "en": (
        "conv2 (sketch.py, line 30) has stride 2, ours 1: the main path shrinks by 4, the shortcut "
        "by 2, and the addition fails",
        "Here the addition of values of the shapes (128, 8, 6) and (128, 16, 12) fails.",
        "| the main path | | 2 × 2 = 4 | 64 × 32 × 24 | **128 × 8 × 6** |",
        "| `(64, 128, 5, 1)` | 128 × 28 × 20 | 128 × 32 × 24 | **fails** | 128 × 32 × 24 |",
        "is a residual block, 64 to 128 channels, kernel 3x3, stride 2, attention se",
    ),
    "zh": (
        "conv2（sketch.py，第 30 行）的步幅是 2，我们的是 1：主路径缩小到 1/4，捷径缩小到 1/2，"
        "因此无法相加",
        "相加这一步失败：两个输入的形状为 (128, 8, 6) 和 (128, 16, 12)（通道，行，列），不匹配。",
        "| 主路径 | | 2 × 2 = 4 | 64 × 32 × 24 | **128 × 8 × 6** |",
        "| `(64, 128, 5, 1)` | 128 × 28 × 20 | 128 × 32 × 24 | **出错** | 128 × 32 × 24 |",
        "是残差块，64 → 128 通道，卷积核 3x3，步幅 2，注意力 se",
    ),
}


@pytest.mark.parametrize("language", PAGES)
def test_what_the_answer_says(language):
    text = (ROOT / PAGES[language]).read_text(encoding="utf-8")
    for sentence in SAID[language]:
        assert sentence in text
    assert "RuntimeError: The size of tensor a (6) must match the size of tensor b (12)" in text


@pytest.mark.parametrize("language", PAGES)
def test_every_line_of_the_sketch_is_explained(language):
    """Each line of the class is quoted once more, apart from those in `rest`."""
    text = (ROOT / PAGES[language]).read_text(encoding="utf-8")
    code = (ROOT / explained.SKETCH).read_text(encoding="utf-8").partition("(nn.Module):\n")[2]
    rest = ("super().__init__()", "self.shortcut = nn.Sequential(", ")", "def forward(self, x):")
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    assert len(lines) == 17
    quoted = [re.search(rf"^(\| |\*\*)`{re.escape(line)}`( \||\*\*)", text, re.M) for line in lines]
    missing = [line for line, found in zip(lines, quoted, strict=True) if found is None]
    assert [line for line in missing if line not in rest] == []


def test_both_languages_have_the_same_code_and_files():
    english, chinese = ((ROOT / page).read_text(encoding="utf-8") for page in PAGES.values())
    blocks = r"```\w+\n.*?```"
    assert re.findall(blocks, english, re.S) == re.findall(blocks, chinese, re.S)
    links = r'(?:src="|\]\()([\w./-]+)'
    named = [set(re.findall(links, text)) for text in (english, chinese)]
    assert named[0] - {PAGES["zh"].name} == named[1] - {PAGES["en"].name}
    for path in named[0] | named[1]:
        assert (ROOT / "docs" / path).exists(), path


def test_the_python_of_the_answer_runs(torch, capsys):
    text = (ROOT / PAGES["en"]).read_text(encoding="utf-8")
    code = next(each for each in re.findall(r"```python\n(.*?)```", text, re.S) if "print" in each)
    exec(compile(code, "explained.md", "exec"), {})
    assert capsys.readouterr().out == "torch.Size([1, 128, 16, 12])\n"


def test_the_code_of_the_thread_lacks_its_attention(torch, sketch):
    """Without our import it stops with the error that the answer names."""
    names = {"__name__": "thread"}
    exec(compile(sketch.code(), "thread", "exec"), names)
    assert sketch.code() in (ROOT / PAGES["en"]).read_text(encoding="utf-8")
    with pytest.raises(NameError, match=r"name 'AttentionModule' is not defined"):
        names["ResidualBlockWithAttention"](64, 128)


def make_folder(tmp_path, text):
    (tmp_path / "docs").mkdir()
    (tmp_path / explained.SKETCH).write_text(text, encoding="utf-8")
    return tmp_path


def test_a_sketch_without_its_fault_is_refused(torch, tmp_path):
    text = (ROOT / explained.SKETCH).read_text(encoding="utf-8")
    mended = make_folder(tmp_path, text.replace(FAULTY, explained.MENDED))
    with pytest.raises(FileError, match=r"sketch.py: expected the block to fail at stride 2"):
        Sketch(mended)


def test_a_sketch_whose_faulty_line_changed_is_refused(torch, tmp_path):
    text = (ROOT / explained.SKETCH).read_text(encoding="utf-8")
    other = make_folder(tmp_path, text.replace(FAULTY, FAULTY.replace("padding)", "1)")))
    with pytest.raises(FileError, match=r"sketch.py: expected the line 'self.conv2 = "):
        Sketch(other).build_mended()


def test_a_template_that_lacks_a_value_is_refused(torch, sketch, tmp_path, monkeypatch):
    source = (explained.TEMPLATES / "explained.md").read_text(encoding="utf-8")
    (tmp_path / "explained.md").write_text(source.replace("{{cause}}", "{{reason}}"), "utf-8")
    monkeypatch.setattr(explained, "TEMPLATES", tmp_path)
    with pytest.raises(FileError, match=r"explained.md: expected each value of cause, reason in"):
        make_page(sketch, "en")
