"""Source of a plugin module with one scorer, for tests that install one."""

from __future__ import annotations

SCORER = """
from deattrib import Scorer, hookimpl

class {cls}(Scorer):
    \"\"\"Counts words.

    More.
    \"\"\"

    name = "{name}"
    {body}

    def score(self, rows):
        return [0.0] * len(rows)

@hookimpl
def scorers():
    return [{cls}]
"""


def scorer_source(name: str, cls: str = "Words", body: str = "") -> str:
    """A module that brings one scorer; `body` goes into its class."""
    return SCORER.format(name=name, cls=cls, body=body)
