"""`python -m resattn.documents.explained`: makes docs/explained.md, its Chinese version and their
pictures from the sketch in docs/sketch.py.

The prose is in templates, in each language written by itself. Shapes, numbers, what the operations
do and what is wrong come from the explanation, the recognition and the drawing of the sketch as it
is executed, and of our block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from resattn.drawing.pictures import scene_of, scene_of_reading
from resattn.drawing.scene import Scene
from resattn.drawing.svg import svg
from resattn.explaining.entries import AnyExplanation, Entry
from resattn.explaining.executed.explanation import ExecutedExplanation, explain_executed
from resattn.explaining.executed.failures import ExplainedFailure, FailedPath
from resattn.explaining.executed.sentences import say_failure
from resattn.explaining.explanation import explain
from resattn.explaining.wording import Wording, format_pair, format_sizes
from resattn.reading.blocks import find_blocks
from resattn.reading.executed import ExecutedGraph, execute
from resattn.reading.models import read_model
from resattn.recognition.recognition import recognise_model
from weights.config import BlockConfig
from weights.errors import FileError
from weights.graph import graph
from weights.operations import Operation

SKETCH = Path("docs/sketch.py")
PAGES = {"en": Path("docs/explained.md"), "zh": Path("docs/explained.zh-CN.md")}
SKETCH_PICTURE, BLOCK_PICTURE = Path("docs/explained-sketch.svg"), Path("docs/explained-block.svg")
TEMPLATES = Path(__file__).with_name("templates")

CHANNELS, SIZE = (64, 128), (32, 24)  # of the examples; distinct, so that shapes name their axes
# kernel_size and stride of what is tried, with the padding where it is given.
ATTEMPTS = ((3, 1), (3, 2), (3, 3), (5, 1), (5, 1, 2), (5, 2, 2))
FAULTY = "self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size, stride, padding)"
MENDED = "self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size, 1, padding)"

_ADDED = {"en": ("added", "**fails**"), "zh": ("相加成功", "**出错**")}


class Sketch:
    """The sketch as a file of source code, and what can be known of it."""

    def __init__(self, folder: Path):
        self.path = folder / SKETCH
        self.text = self.path.read_text(encoding="utf-8")
        spec = spec_from_file_location("resattn_sketch", self.path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        self.block: Any = module.ResidualBlockWithAttention
        message = self.run()
        self.reading = read_model(self.build(3, 2), SIZE)
        self.explained = _replace_message(explain_executed(self.reading), message)

    def build(self, *arguments: int) -> Any:
        """The sketch's block. arguments: those after the channels."""
        return self.block(*CHANNELS, *arguments).eval()

    def build_mended(self) -> Any:
        """The same at stride 2, with the faulty line mended. Raises FileError without that line."""
        if FAULTY not in self.text:
            raise FileError(f"{self.path.name}: expected the line {FAULTY!r}")
        names: dict[str, Any] = {"__name__": "resattn_sketch"}
        exec(compile(self.text.replace(FAULTY, MENDED), "mended", "exec"), names)
        return names[self.block.__name__](*CHANNELS, 3, 2).eval()

    def run(self) -> str:
        """The message of the error at stride 2."""
        import torch

        try:
            self.build(3, 2)(torch.zeros(1, CHANNELS[0], *SIZE))
        except RuntimeError as error:
            return str(error)
        raise FileError(f"{self.path.name}: expected the block to fail at stride 2")

    def code(self) -> str:
        """What the thread has: without our comment and our import."""
        lines = self.text.partition('"""\n\n')[2].splitlines()
        kept = [line for line in lines if not line.startswith("from pytorch_impl")]
        return re.sub(r"\n{4,}", "\n\n\n", "\n".join(kept)).strip()

    def statements(self) -> Iterator[tuple[int, str]]:
        """Numbers and texts of the lines of `forward`."""
        lines = self.text.splitlines()
        start = next(n for n, line in enumerate(lines) if "def forward" in line)
        yield from ((n + 1, lines[n].strip()) for n in range(start + 1, len(lines)))


def _replace_message(found: ExecutedExplanation, message: str) -> ExecutedExplanation:
    """The explanation of a failure with the message that a user sees instead of the reader's."""
    assert found.failure is not None
    failure = replace(found.failure.failure, message=message)
    return replace(found, failure=replace(found.failure, failure=failure))


def make_page(sketch: Sketch, language: str) -> str:
    """The document in one language: its template, filled. Raises FileError for a template that
    lacks one of the values, or has others.
    """
    template = (TEMPLATES / PAGES[language].name).read_text(encoding="utf-8")
    explained, failure = sketch.explained, sketch.explained.failure
    assert failure is not None
    wording = Wording(explained, language)
    block = BlockConfig(*CHANNELS, 3, 2)
    ours = explain(block, SIZE)
    nearest = recognise_model(sketch.reading).describe(language)
    mended = recognise_model(read_model(sketch.build_mended(), SIZE)).describe(language)
    sums, said = ours.totals(), list(_say_failure(wording, failure))
    values = {
        "code": sketch.code(),
        "difference": nearest[-1].removeprefix("- "),
        "forward": "\n".join(_list_steps(sketch, wording)),
        "failure": "\n".join(f"- {_quote(sentence)}" for sentence in said[:2]),
        "cause": "\n".join(f"- {_quote(sentence)}" for sentence in said[-2:]),
        "error": failure.failure.message,
        "paths": "\n".join(_list_changes(wording, failure)),
        "attempts": "\n".join(_list_attempts(sketch, language)),
        "faulty": FAULTY,
        "mended": MENDED,
        "recognised": mended[0],
        "steps": "\n".join(_list_ours(ours, Wording(ours, language))),
        "parameters": f"{sums['parameters']:,}",
        "multiply_adds": f"{sums['multiply_adds']:,}",
    }
    named = set(re.findall(r"\{\{(\w+)\}\}", template))
    if named != set(values):
        differ = ", ".join(sorted(named.symmetric_difference(values)))
        raise FileError(f"{PAGES[language].name}: expected each value of {differ} in its template")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def make_pictures(sketch: Sketch) -> dict[Path, Scene]:
    """The sketch as it fails, and our block with the same arguments."""
    return {
        SKETCH_PICTURE: scene_of_reading(sketch.reading),
        BLOCK_PICTURE: scene_of(BlockConfig(*CHANNELS, 3, 2), SIZE),
    }


def _list_steps(sketch: Sketch, wording: Wording) -> Iterator[str]:
    """Each line of `forward`, with the steps that it executes."""
    named = dict(sketch.statements())
    steps: dict[int, list[Entry]] = {number: [] for number in named}
    inside = next(number for number, text in named.items() if "self.attention(" in text)
    for entry in sketch.explained.entries:
        if not isinstance(entry, Entry) or entry.part in ("input", "failure"):
            continue
        origin = sketch.explained.graph.origins[entry.operation.name]
        own = Path(origin.file).name == SKETCH.name
        steps[origin.line if own else inside].append(entry)
    for number, text in named.items():
        yield f"**`{text}`**\n"
        yield from (f"- {_say_step(wording, entry)}" for entry in steps[number])


def _say_step(wording: Wording, entry: Entry) -> str:
    """One step in one line: what it computes, shapes, parameters and the reason."""
    operation, words = entry.operation, wording.words
    title = f"`{operation.name}`{words['colon']}{wording.what(operation)}"
    details = [_say_shapes(wording, operation)]
    for key, count in (("parameters", operation.trainable), ("products", operation.multiply_adds)):
        details += [wording.say(key, count=f"{count:,}")] if count else []
    line = words["separator"].join((title, *details))
    return f"{line}\n\n  {wording.why(entry)}\n"


def _say_shapes(wording: Wording, operation: Operation) -> str:
    """Those before and after. An unchanged shape once."""
    shape = format_sizes(operation.shape)
    before = [format_sizes(wording.graph[name].shape) for name in operation.inputs]
    if before == [shape]:
        return wording.say("unchanged", shape=shape)
    return f"{', '.join(before)} → {shape}"


def _say_failure(wording: Wording, failure: ExplainedFailure) -> Iterator[str]:
    """The sentences without the message and the place: what fails, what differs, the paths, how
    they shrink, what is at fault.
    """
    quiet = replace(failure, failure=replace(failure.failure, message="", line=0))
    yield from say_failure(wording, quiet)


def _list_changes(wording: Wording, failure: ExplainedFailure) -> Iterator[str]:
    """The rows of the table of both paths."""
    for path in failure.paths:
        name = wording.say(f"failure.path.{path.role}", name=path.name)
        for each in path.changes:
            stride = format_pair(each.stride) if each.stride else ""
            shapes = f"{_multiply(each.before)} | {_multiply(each.after)}"
            yield f"| {name} | `{each.name}` | {stride} | {shapes} |"
        shapes = f"{_multiply(path.start)} | **{_multiply(path.shape)}**"
        yield f"| {name} | | {_join_strides(path)} | {shapes} |"


def _join_strides(path: FailedPath) -> str:
    """The strides of a path as a product."""
    strides = [format_pair(each.stride) for each in path.changes if each.stride]
    total = "×".join(map(str, dict.fromkeys(path.shrinks)))
    return f"{' × '.join(strides)} = {total}" if len(strides) > 1 else total


def _list_attempts(sketch: Sketch, language: str) -> Iterator[str]:
    """The rows of the table of what was tried: the shapes that meet in the sum, and our output."""
    for arguments in ATTEMPTS:
        found = execute(read_model(sketch.build(*arguments), SIZE))
        main, shortcut = (format_sizes(found[name].shape) for name in _find_ends(found))
        config = BlockConfig(*CHANNELS, *arguments[:2])
        ours = format_sizes(graph(config, SIZE, False).operations[-1].shape)
        outcome = _ADDED[language][found.failure is not None]
        given = ", ".join(map(str, (*CHANNELS, *arguments)))
        yield f"| `({given})` | {main} | {shortcut} | {outcome} | {ours} |"


def _find_ends(found: ExecutedGraph) -> tuple[str, str]:
    """The last operations of the main path and of the shortcut."""
    (block,) = find_blocks(found)
    return block.main[-1], block.shortcut[-1]


def _list_ours(explained: AnyExplanation, wording: Wording) -> Iterator[str]:
    """The rows of the table of our block."""
    for entry in explained.entries:
        assert isinstance(entry, Entry)
        operation = entry.operation
        if operation.kind == "input":
            continue
        count = f"{operation.trainable:,}" if operation.trainable else ""
        shape = format_sizes(operation.shape)
        yield f"| `{operation.name}` | {wording.what(operation)} | {shape} | {count} |"


def _multiply(sizes: tuple[int, ...]) -> str:
    return " × ".join(map(str, sizes))


def _quote(sentence: str) -> str:
    """A sentence with names of steps as code."""
    return re.sub(r"\b((?:conv|bn|shortcut\.)\d)\b", r"`\1`", sentence)


def write_answer(folder: Path) -> None:
    """Writes the documents and the pictures in the folder of the project."""
    sketch = Sketch(folder)
    for language, page in PAGES.items():
        (folder / page).write_text(make_page(sketch, language), encoding="utf-8")
    for path, scene in make_pictures(sketch).items():
        (folder / path).write_text(svg(scene), encoding="utf-8")


if __name__ == "__main__":
    write_answer(Path())
