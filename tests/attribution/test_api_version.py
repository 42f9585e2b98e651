"""A scorer says for which interface it was written; one that does not fit is refused with what to upgrade."""

from __future__ import annotations

from typing import Any

import pytest

from deattrib import Attack, Method, Metric, Scorer
from deattrib.attribution import loading
from deattrib.attribution.loading import check_class
from deattrib.errors import PluginError


def written_for(version: Any) -> type[Scorer]:
    return type("Some", (Scorer,), {"name": "some", "api_version": version, "score": lambda self, rows: [0.0] * len(rows)})


@pytest.fixture
def interface_2_to_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine some years from now."""
    monkeypatch.setattr(loading, "OLDEST_API_VERSION", 2)
    monkeypatch.setattr(loading, "API_VERSION", 4)


@pytest.mark.usefixtures("interface_2_to_4")
@pytest.mark.parametrize("version", [2, 3, 4])
def test_everything_in_the_range_is_taken(version: int) -> None:
    cls = written_for(version)
    check_class(cls, "scorer")
    assert loading.OLDEST_API_VERSION <= cls.api_version <= loading.API_VERSION


@pytest.mark.usefixtures("interface_2_to_4")
def test_an_older_one_is_told_to_be_upgraded() -> None:
    with pytest.raises(
        PluginError, match=r"'some' was written for plugin interface 1, .* takes 2 to 4\. Upgrade the distribution"
    ):
        check_class(written_for(1), "scorer")


@pytest.mark.usefixtures("interface_2_to_4")
def test_a_newer_one_needs_a_newer_engine() -> None:
    with pytest.raises(PluginError, match=r"interface 5 .*pip install --upgrade deattrib"):
        check_class(written_for(5), "scorer")


@pytest.mark.usefixtures("interface_2_to_4")
@pytest.mark.parametrize(("kind", "base"), [("metric", Metric), ("method", Method), ("attack", Attack)])
def test_the_number_counts_for_every_kind_of_plugin(kind: str, base: type[Any]) -> None:
    check_class(type("Some", (base,), {"name": "some", "api_version": 3}), kind)
    check_class(type("Some", (base,), {"name": "some"}), kind)  # one that says nothing is of the present interface
    with pytest.raises(PluginError, match=rf"{kind} 'some' was written for plugin interface 1, .* takes 2 to 4"):
        check_class(type("Some", (base,), {"name": "some", "api_version": 1}), kind)
    with pytest.raises(PluginError, match=rf"{kind} 'some' .* interface 5 and needs a newer deattrib"):
        check_class(type("Some", (base,), {"name": "some", "api_version": 5}), kind)


@pytest.mark.parametrize("version", [0, True, "1", None])
def test_what_is_no_version_is_refused(version: Any) -> None:
    with pytest.raises(PluginError, match="expected an integer from 1"):
        check_class(written_for(version), "scorer")
