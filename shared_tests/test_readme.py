"""What the documents say is so: snippets run, commands parse, links and files are there.

Marks before a snippet: `<!-- needs: NAMES -->` for packages that are not ours and files that a
reader has, `<!-- raises: ERROR -->` for one that ends so. An indented block after a snippet is what
it prints.
"""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from resattn.checking.draws import random_arrays
from resattn.checking.tolerances import TOLERANCES
from resattn.cli.app import app
from shared_tests.libraries import PACKAGES, absence
from weights import BlockConfig, write
from weights.attention import ATTENTION

ROOT = Path(__file__).parent.parent
README, CHINESE, INDEX = "README.md", "README.zh-CN.md", "docs/README.md"
WITH_SNIPPETS = [
    README,
    CHINESE,
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
DOCUMENTS = [
    *WITH_SNIPPETS,
    *sorted(path.name for path in ROOT.glob("*.md") if path.name not in (README, CHINESE)),
    "weights/pretrained/README.md",
]
# The files that a reader has, which some snippets read.
FILES = {
    "resnet20.safetensors": BlockConfig(3, 4),
    "model.safetensors.index.json": BlockConfig(3, 4, stride=2),
}
# What every snippet may import.
IMPORTS = {
    "__future__", "flax", "functools", "hashlib", "jax", "jax_impl", "keras", "numpy",
    "pytorch_impl", "resattn", "tf_impl", "torch", "typing", "weights",
}  # fmt: skip
OTHER_OPTIONS = {"--below"}  # of `python -m resattn.checking.calibration`
# Files that a command makes, and those of the recipes.
MADE = {
    "docs/gpu.json", "jax_impl/attention/pa.py", "pytorch_impl/attention/pa.py",
    "resattn/explaining/attention/pa.py", "tf_impl/attention/pa.py", "weights/attention/pa.py",
    "weights/dialects/crow.py",
}  # fmt: skip
MARK = re.compile(r"<!-- (needs|raises): (.+) -->")
SHELL = re.compile(r"(?:\$ )?((?:resattn|make|python|pip) .*)")


@cache
def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A block of code. language: of a fence, "" for an indented block. mark: (word, value)."""

    document: str
    line: int
    language: str
    text: str
    mark: tuple[str, str] | None
    follows: str = ""  # the language of the block before it, with nothing in between

    def __str__(self):
        return f"{self.document}:{self.line}"

    def without_comments(self):
        """What must be equal in two languages."""
        if self.language == "python":
            return ast.unparse(ast.parse(self.text))
        return re.sub(r"(?m)\s+#\s.*$", "", self.text)


@cache
def blocks(document: str) -> tuple[Block, ...]:
    return tuple(_read_blocks(document, text_of(document).splitlines()))


def _read_blocks(document: str, lines: list[str]) -> Iterator[Block]:
    at, last, mark = 0, "", None
    while at < len(lines):
        start, line = at, lines[at]
        at += 1
        if line.startswith("```"):
            at = lines.index("```", at) + 1
            body, language = lines[start + 1 : at - 1], line[3:]
        elif line.startswith("    ") and (start == 0 or not lines[start - 1]):
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at]):
                at += 1
            body, language = [each[4:] for each in lines[start:at]], ""
        else:
            if line:
                found = MARK.fullmatch(line)
                last, mark = "", found and (found[1], found[2])
            continue
        text = "\n".join(body).rstrip() + "\n"
        yield Block(document, start + 1, language, text, mark, last)
        last, mark = language, None


def prose(document: str) -> str:
    """A document without its blocks of code."""
    lines = text_of(document).splitlines()
    for block in blocks(document):
        fence = 2 if block.language else 0
        for number in range(block.text.count("\n") + fence):
            lines[block.line - 1 + number] = ""
    return "\n".join(lines)


def inline(document: str) -> list[str]:
    """The code within sentences."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(document))]


def commands(document: str) -> list[tuple[str, bool]]:
    """The commands, and whether each is in a sentence, where its last option may lack a value."""
    lines = [
        (line, False)
        for block in blocks(document)
        if not block.language
        for line in block.text.split("\n")
    ]
    lines += [(code, True) for code in inline(document)]
    return [(found[1], said) for line, said in lines if (found := SHELL.fullmatch(line))]


# Snippets

SNIPPETS = {
    block.without_comments(): block
    for document in reversed(WITH_SNIPPETS)
    for block in blocks(document)
    if block.language == "python"
}
PRINTED = {
    (block.document, before.line): block.text
    for document in WITH_SNIPPETS
    for before, block in zip(blocks(document), blocks(document)[1:], strict=False)
    if block.follows == "python" and not block.language and not SHELL.match(block.text)
}


@pytest.mark.parametrize("snippet", sorted(SNIPPETS.values(), key=str), ids=str)
def test_snippets_run(all_frameworks, snippet, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    word, value = snippet.mark or ("", "")
    for name in value.split(", ") if word == "needs" else ():
        if name in FILES:
            write(Path(name), FILES[name], random_arrays(FILES[name]))
        elif reason := absence(name):
            pytest.skip(reason)
    code = compile(snippet.text, str(snippet), "exec")
    if word == "raises":
        with pytest.raises((AssertionError, ValueError)) as caught:
            exec(code, {"__name__": "snippet"})
        assert type(caught.value).__name__ == value
    else:
        exec(code, {"__name__": "snippet"})
    if (snippet.document, snippet.line) in PRINTED:
        assert capsys.readouterr().out == PRINTED[snippet.document, snippet.line]


@pytest.mark.parametrize("snippet", sorted(SNIPPETS.values(), key=str), ids=str)
def test_marks_of_snippets_are_true(snippet):
    word, value = snippet.mark or ("", "")
    needed = set(value.split(", ")) if word == "needs" else set()
    assert needed <= {*FILES, *filter(None, PACKAGES.values())}
    assert all(name in snippet.text for name in needed)
    assert imported(snippet.text) - IMPORTS == {name for name in needed if name not in FILES}


def imported(code: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(code)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names}


def test_some_snippets_print():
    assert {document for document, _ in PRINTED} >= {"docs/attach.md", "docs/own_models.md"}


def test_the_main_functions_are_shown():
    together = "\n".join(block.text for block in SNIPPETS.values())
    for name in ("ResidualBlockWithAttention(64, 128, 3, 2", "port(block", "save(", "read(",
                 "crosscheck(", "export(", "trace(", "deploy(", "Trainer(", "attach("):  # fmt: skip
        assert name in together


# Commands


def parse(words: list[str], said: bool = False) -> None:
    """Parses the words after `resattn` as the command line does, without running anything.

    said: whether an option at the end may lack its value.
    """
    group: Any = typer.main.get_command(app)
    context = group.context_class(group, info_name="resattn")
    _, rest, _ = group.make_parser(context).parse_args(words)
    if not rest:
        return
    assert rest[0] in group.commands, f"there is no command {rest[0]}"
    command = group.commands[rest[0]]
    inner = command.context_class(command, info_name=rest[0], parent=context)
    if said and rest[-1].startswith("--"):
        assert rest.pop() in options_of(command)
    _, more, _ = command.make_parser(inner).parse_args(rest[1:])
    assert not more, f"more arguments than resattn {rest[0]} takes: {more}"


def options_of(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_exist(document):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for command, said in commands(document):
        name, *words = shlex.split(command, comments=True)
        if name == "python" and words[:2] == ["-m", "resattn"]:
            name, words = "resattn", words[2:]
        if name == "resattn":
            parse(words, said)
        elif name == "make":
            targets = [word for word in words if "=" not in word]
            assert all(re.search(rf"(?m)^{target}:", makefile) for target in targets), command
        elif name == "python" and words[0] == "-m":
            assert find_spec(words[1]), command
        elif name == "pip":
            extras = re.findall(r"\.\[([\w,]+)\]", command)
            assert set(",".join(extras).split(",")) <= {*project["optional-dependencies"], ""}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_options_exist(document):
    group: Any = typer.main.get_command(app)
    options = set().union(*map(options_of, (group, *group.commands.values())))
    for code in inline(document):
        if code.startswith("--"):
            assert code.split()[0] in options | OTHER_OPTIONS or code.startswith("--xla_"), code


def test_what_does_not_parse_is_seen():
    with pytest.raises(Exception, match="No such option: --optoin"):
        parse(["check", "net.safetensors", "--optoin"])
    with pytest.raises(Exception, match="requires an argument"):
        parse(["check", "--size"])
    with pytest.raises(AssertionError, match="there is no command chekc"):
        parse(["chekc"])
    with pytest.raises(AssertionError, match="more arguments than resattn inspect takes"):
        parse(["inspect", "a", "b"])
    with pytest.raises(AssertionError):
        parse(["check", "--sise"], said=True)
    parse(["check", "--size"], said=True)


def test_commands_are_found():
    assert len(commands(README)) > 10
    assert ('resattn check "net.py:Net(10)"', False) in commands(README)
    assert ("resattn port resnet20-12fca82f.th resnet20.safetensors", True) in commands(
        "docs/card.md"
    )


# Links


@cache
def anchors(document: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"(?m)^#+ (.+)$", prose(document)):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def links(document: str) -> list[str]:
    """What a document links to in this repository."""
    found = re.findall(r'(?:\ssrc="|\]\()([^)\s"]+)', re.sub(r"`[^`]*`", "", prose(document)))
    return [link for link in found if not link.startswith("http")]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_work(document):
    for link in links(document):
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT.resolve()).as_posix()), link


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_exist(document):
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    for code in inline(document):
        path = code.rstrip("/").split(":")[0]
        if re.fullmatch(r"[\w./-]+", path) and "/" in code and path.split("/")[0] in folders:
            assert path in MADE or (ROOT / path).exists(), code


def test_the_index_has_every_document():
    listed = {f"docs/{link.partition('#')[0]}" for link in links(INDEX)}
    assert set(WITH_SNIPPETS) - {README, CHINESE, INDEX} <= listed
    assert INDEX in links(README)


# Both READMEs


def test_readmes_are_short():
    assert all(len(text_of(document).splitlines()) <= 200 for document in (README, CHINESE))


def test_code_of_the_readmes_is_equal():
    english, chinese = ([b.without_comments() for b in blocks(d)] for d in (README, CHINESE))
    assert english == chinese
    assert len(english) > 10


def test_readmes_have_the_same_parts():
    for pattern in (r"(?m)^#+ ", r"(?m)^\| ", r"<img src=\S+"):
        assert re.findall(pattern, prose(README)) == re.findall(pattern, prose(CHINESE))
    english, chinese = (
        {link.partition("#")[0] for link in links(document)} - {"", README, CHINESE}
        for document in (README, CHINESE)
    )
    chinese = {link.replace(".zh-CN", "") for link in chinese}
    assert english == chinese
    assert CHINESE in links(README)
    assert README in links(CHINESE)


def test_chinese_punctuation():
    """Full width after Chinese; and no line break within a paragraph, which is shown as a space."""
    text = re.sub(r"`[^`]*`", "`", prose(CHINESE))
    assert not re.findall(r"[\u4e00-\u9fff`][,;:?!(]|[\u4e00-\u9fff]\.(?!\w)", text)
    assert not re.findall(r"[^\s|>·)]\n[\u4e00-\u9fff`]", text)


# Tables


def test_tolerances_are_those_of_the_table():
    rows = re.findall(r"(?m)^\| (float\d+) (\w+) \| ([\de-]+) \|", text_of("docs/checking.md"))
    assert {(dtype, quantity): float(limit) for dtype, quantity, limit in rows} == TOLERANCES


def test_every_attention_kind_is_in_the_table():
    rows = re.findall(r"(?m)^\| `(\w+)` \|([^|]*)\|", text_of("docs/attention.md"))
    built_in = [kind for kind in ATTENTION if ATTENTION[kind].built_in]
    assert [kind for kind, _ in rows] == built_in
    for kind, source in rows:
        assert source.strip().split(" (")[0] == ATTENTION[kind].source.split(",")[0]
    number = str(len(built_in))
    assert all(number in text_of(document) for document in (README, CHINESE, INDEX))
