"""Code blocks of README and docs, and what the comment above one says about how it is tested.

<!-- not run: WHY -->                  a block that cannot run here; it is still parsed
<!-- run with: OLD -> NEW -->          what is smaller in the test; may stand several times
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(DOCS.rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
FENCE = re.compile(
    r"(?P<marks>(?:^<!-- (?:not run|run with): [^\n]*-->\n)*)^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: where it is, from the root of the repository; `line` counts from 1.
        swaps: (old, new) for the test.
        reason: why it cannot run; "" if it can.
    """

    page: str
    line: int
    language: str
    text: str
    swaps: tuple[tuple[str, str], ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def tested(self) -> str:
        """The text with its swaps. Raises ValueError where one of them is no longer in the text."""
        text = self.text
        for old, new in self.swaps:
            if old not in text:
                raise ValueError(f"{self}: {old!r} is not in the block")
            text = text.replace(old, new)
        return text


def blocks_of(path: Path) -> list[Block]:
    page = path.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(page):
        marks = re.findall(r"<!-- (not run|run with): (.*?) -->", match["marks"])
        swaps = tuple((old, new) for kind, said in marks if kind == "run with" for old, new in [said.split(" -> ")])
        reason = " ".join(said for kind, said in marks if kind == "not run")
        line = page[: match.start("language")].count("\n") + 1
        found.append(Block(str(path.relative_to(ROOT)), line, match["language"], match["text"], swaps, reason))
    return found


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
