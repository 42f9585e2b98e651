"""Text from models and corpora, made safe to *look at*.

Markup is escaped by Jinja's autoescape; this module takes care of what escaping leaves alone: terminal escapes and control
characters, direction overrides and other invisible characters (shown by code point, [U+001B]: few fonts have the pictures
of the U+2400 block), unpaired surrogates (which UTF-8 cannot hold), towers of combining marks, and answers that never end.
"""

from __future__ import annotations

import re
import unicodedata

LIMIT = 2000
"""Characters of one text that are shown; the rest is counted."""

MARKS = 4
"""Combining marks in a row that are shown; real scripts stay below this, "zalgo" text does not."""

# Format characters that scripts need (joiners) or that have a glyph of their own (Arabic and Kaithi number signs).
_KEPT_FORMAT = frozenset("\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2\U000110bd")
_PLAIN = re.compile(r"[\x20-\x7e]*")


def _picture(character: str) -> str:
    """The visible stand-in of one character, or the character itself."""
    code = ord(character)
    if character == "\n":
        return " ↵ "
    if character == "\t":
        return " ⇥ "
    category = unicodedata.category(character)
    hidden = category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and character not in _KEPT_FORMAT)
    return f"[U+{code:04X}]" if hidden or code & 0xFFFE == 0xFFFE else character


def visible(value: object, limit: int = LIMIT) -> str:
    """`value` as text in which every character can be seen; at most `limit` source characters, the rest counted.

    Not escaped for HTML: that is the template's work.
    """
    source = value if isinstance(value, str) else str(value)
    cut = f" … [+{len(source) - limit} characters]" if len(source) > limit else ""
    source = source[:limit]
    if _PLAIN.fullmatch(source):
        return source + cut
    pieces: list[str] = []
    run = 0
    for character in source:
        run = run + 1 if unicodedata.category(character) in ("Mn", "Me") else 0
        if run > MARKS:
            if run == MARKS + 1:
                pieces.append("[+marks]")
            continue
        pieces.append(_picture(character))
    return "".join(pieces) + cut
