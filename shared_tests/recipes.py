"""The recipes of docs/recipes.md as data: which files they make and change, which commands they
run; and how they are followed in a copy of the repository.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from shared_tests.test_readme import Block, blocks, text_of

DOCUMENT = "docs/recipes.md"
ATTENTION_KIND, DIALECT, VERSION = (
    "Add an attention kind", "Add a checkpoint dialect", "Raise a framework's version",
)  # fmt: skip


def blocks_of(recipe: str) -> list[Block]:
    """The blocks of code under the heading of a recipe."""
    lines = text_of(DOCUMENT).splitlines()
    first = lines.index(f"## {recipe}") + 1
    later = (number for number, line in enumerate(lines, 1) if line.startswith("## "))
    last = next((number for number in later if number > first), len(lines) + 1)
    return [block for block in blocks(DOCUMENT) if first < block.line < last]


def text_under(recipe: str) -> str:
    """A recipe as it is written."""
    return text_of(DOCUMENT).split(f"\n## {recipe}\n")[1].split("\n## ")[0]


def commands_of(recipe: str) -> list[list[str]]:
    """The words of each command of a recipe, in order."""
    lines = [
        line
        for block in blocks_of(recipe)
        if not block.language
        for line in block.text.splitlines()
    ]
    return [shlex.split(line, comments=True) for line in lines]


def files_of(block: Block) -> list[str]:
    """The files that the line before a block names."""
    before = text_of(DOCUMENT).splitlines()[: block.line - 1]
    line = next(line for line in reversed(before) if line)
    assert re.fullmatch(r"`[\w./]+`(, `[\w./]+`)*", line), f"{block}: no file named, but {line!r}"
    return re.findall(r"`([^`]+)`", line)


def follow(recipe: str, root: Path) -> list[str]:
    """Makes and changes the files as a recipe says. Gives the new ones."""
    made = []
    for block in blocks_of(recipe):
        for file in files_of(block) if block.language else ():
            path = root / file
            if block.language == "python":
                assert not path.exists(), f"{file} is there already"
                path.write_text(block.text, encoding="utf-8")
                made.append(file)
            else:
                text = path.read_text(encoding="utf-8")
                changes = block.text.replace("PACKAGE", file.split("/")[0])
                path.write_text(change(text, changes, file), encoding="utf-8")
    return made


def change(text: str, changes: str, file: str = "") -> str:
    """A text with the lines added that have a + in the changes, parted by @@. The other lines must
    be in the text once, one after the other.
    """
    lines = text.splitlines()
    for hunk in changes.rstrip("\n").split("\n@@\n"):
        new = hunk.splitlines()
        assert all(line[:1] in ("+", " ") for line in new if line), hunk
        old = [line[1:] for line in new if line.startswith(" ")]
        found = [at for at in range(len(lines)) if lines[at : at + len(old)] == old]
        assert len(found) == 1, f"{file}: found {len(found)} times:\n" + "\n".join(old)
        lines[found[0] : found[0] + len(old)] = [line[1:] for line in new]
    return "\n".join(lines) + "\n"
