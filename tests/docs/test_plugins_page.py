"""docs/plugins.md says what the code says."""

from __future__ import annotations

from pathlib import Path

from deattrib.attribution.discovery import VARIABLE
from deattrib.attribution.hookspecs import AttributionReward
from deattrib.attribution.loading import OPTIONAL_METHODS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "plugins.md").read_text(encoding="utf-8")


def test_every_hook_optional_method_and_command_is_there() -> None:
    hooks = [name for name in vars(AttributionReward) if not name.startswith("_")]
    for word in (*hooks, *OPTIONAL_METHODS, VARIABLE, "deattrib check", "deattrib new-scorer", "deattrib plugins"):
        assert word in PAGE, word


def test_the_readme_counts_the_checks() -> None:
    from deattrib.testing import CHECKS

    assert f"# {len(CHECKS)} checks" in (DOCS.parent / "README.md").read_text(encoding="utf-8")
