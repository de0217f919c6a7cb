"""Pages of HTML from the templates in `templates/`. A page loads nothing: the style sheet and the
script are in it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weights.checks import printable
from weights.files.atomic import write_atomically
from weights.language import current_language, say

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_HERE = Path(__file__).parent
_TEMPLATES = _HERE / "templates"


def fill_template(name: str, **values: Any) -> str:
    """The page that a template makes. Values are escaped, and so is what does not print: names of
    files and tensors may hold control characters.
    """
    return printable(_make_environment().get_template(name).render(values))


def trust(html: str) -> Markup:
    """HTML of our own, which a template shows as it is."""
    from markupsafe import Markup

    return Markup(html)


def write_html(path: Path, html: str) -> None:
    """Writes a page. An existing file is replaced only once the page is complete."""
    write_atomically(path, lambda temporary: temporary.write_text(html, encoding="utf-8"))


def list_template_sentences() -> list[str]:
    """The English sentences of the templates, for catalogues of translations: the first argument of
    each call of `say`.
    """
    from jinja2.nodes import Call, Name

    environment = _make_environment()
    found = []
    for path in sorted(_TEMPLATES.iterdir()):
        tree = environment.parse(path.read_text(encoding="utf-8"))
        for call in tree.find_all(Call):
            if isinstance(call.node, Name) and call.node.name == "say":
                found.append(call.args[0].as_const())
    return list(dict.fromkeys(found))


@cache
def _make_environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (
        trust((_HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js")
    )
    environment.globals |= {"say": _say_in_html, "style": style, "script": script}
    environment.globals["current_language"] = current_language
    return environment


def _say_in_html(text: str, /, **values: Any) -> Markup:
    """`say` for templates: the values are escaped unless they are HTML already."""
    from markupsafe import escape

    sentence = escape(say(text))
    return sentence.format(**values) if values else sentence
