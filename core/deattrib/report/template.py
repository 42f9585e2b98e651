"""The templates of all pages: escaped, strict about what is missing, and with their style inside."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from deattrib.report.text import visible


def style(package: str) -> Markup:
    """The style sheet of a page, as it is."""
    return Markup(resources.files(package).joinpath("page.css").read_text(encoding="utf-8"))


def page_template(package: str, **more: Any) -> Template:
    """`page.html.j2` of a package, with `css` (the style that all pages share), the filter `visible`, and `more`."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["visible"] = visible
    environment.globals.update(css=style("deattrib.report"), **more)
    return environment.from_string(resources.files(package).joinpath("page.html.j2").read_text(encoding="utf-8"))
