"""What mkdocs does not do by itself: pages for the files of the repository that the docs link to, blank lines before lists, and
the catalogue's part of the navigation, which is that of its tables.

On the repository's own pages a link such as ../examples/resume.py shows the file, and a list may follow its sentence at once;
the site has to be made to do the same. Nothing is copied into docs/.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(((?:\.\./)+)([^)#\s]+?)/?(#[^)]*)?\)")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".md": "markdown"}
TEXTS = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")


def outside() -> list[str]:
    """Files and folders of the repository that pages may link to, from its root."""
    examples = [path for path in (ROOT / "examples").rglob("*") if path.suffix in LANGUAGES and "__pycache__" not in path.parts]
    folders = {path.parent for path in examples}
    return sorted(str(path.relative_to(ROOT)) for path in {*examples, *folders}) + list(TEXTS)


def page_of(name: str) -> str:
    """Where a file or folder of the repository stands in the site."""
    return name if name in TEXTS else f"{name.strip('/')}.md" if PurePosixPath(name).suffix else f"{name.strip('/')}/index.md"


def content_of(name: str) -> str:
    """A file as a page of its own; a folder as the list of what is in it."""
    path = ROOT / name
    if name in TEXTS:
        return re.sub(r"\]\(docs/([^)]*)\)", r"](\1)", path.read_text(encoding="utf-8"))
    if path.is_dir():
        files = [one for one in outside() if one.startswith(f"{name}/") and (ROOT / one).is_file()]
        return "\n".join([f"# {name}", "", *(f"- [{one}]({page_of(one).removeprefix(f'{name}/')})" for one in files)])
    return f"# {name}\n\n````{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}````\n"


def spaced(markdown: str) -> str:
    """Blank lines before lists, tables and fences, and lists after a heading of their own, outside code."""
    lines: list[str] = []
    fenced = False
    for line in markdown.splitlines():
        fence = re.match(r"\s*(`{3,})", line)
        before = lines[-1] if lines else ""
        begins = re.match(r"(- |\d+\. |\|)", line) is not None and not re.match(r"(- |\d+\. |\||\s*$|  )", before)
        if not fenced and (begins or fence) and before.strip():
            lines.append("")
        if fence:
            fenced = not fenced
        lines.append(line)
    return "\n".join(lines) + "\n"


def navigation(nav: Any) -> Any:
    """The navigation of mkdocs.yml with the pages that catalogue.md links to below it, by kind and in its order."""
    if isinstance(nav, list):
        return [navigation(item) for item in nav]
    if isinstance(nav, dict):
        return {title: navigation(part) for title, part in nav.items()}
    if nav != "catalogue.md":
        return nav
    linked = re.findall(r"\]\((catalogue/(\w+)/[^)]+)\)", (ROOT / "docs" / nav).read_text(encoding="utf-8"))
    kinds = dict.fromkeys(kind for _, kind in linked)
    return [nav, *({kind.capitalize(): [path for path, of in linked if of == kind]} for kind in kinds)]


# -- what mkdocs calls ----------------------------------------------------------------------------------------------------
def on_config(config: Any) -> Any:
    config["nav"] = navigation(config["nav"])
    return config


def on_files(files: Any, *, config: Any) -> Any:
    from mkdocs.structure.files import File, InclusionLevel

    for name in outside():
        level = InclusionLevel.UNDEFINED if name in (*TEXTS, "examples") else InclusionLevel.NOT_IN_NAV
        files.append(File.generated(config, page_of(name), content=content_of(name), inclusion=level))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    here = PurePosixPath(page.file.src_uri).parent
    known = set(outside())

    def inside(match: re.Match[str]) -> str:
        ups = match[1].count("../") - len(here.parts)  # how far above docs/ the link leads: once is the repository's root
        if ups != 1 or match[2] not in known:
            return match[0]
        target = page_of(match[2])
        return f"]({'../' * len(here.parts)}{target}{match[3] or ''})"

    return spaced(LINK.sub(inside, markdown))
