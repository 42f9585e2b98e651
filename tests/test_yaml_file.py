"""Settings files mean what they seem to mean, and cannot harm."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deattrib.errors import ConfigError
from deattrib.yaml_file import LARGEST_FILE, dump_yaml, load_yaml, parse_yaml, resolve_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [  # left of the arrow the YAML 1.2 core schema, section 10.3.2; YAML 1.1 reads most of these differently
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-3", -3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1_000", 1000),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("1:30", "1:30"),
        ("2024-01-02", "2024-01-02"),
        ("~", None),
        ("", None),
        ("null", None),
        ("none", "none"),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("+", "+"),
        ("e5", "e5"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_values_follow_the_core_schema(text: str, value: object) -> None:
    parsed = parse_yaml(f"a: {text}", source="s")["a"]
    assert parsed == value
    assert type(parsed) is type(value)
    assert resolve_scalar(text, source="s") == value


def test_quotes_make_text() -> None:
    assert parse_yaml("a: '1e-4'\nb: \"true\"\n", source="s") == {"a": "1e-4", "b": "true"}


@pytest.mark.parametrize(
    ("text", "position", "word"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "s:4:3", "twice, first in line 3"),
        ("a: [1,", "s:1:7", "flow"),
        ("a: 1\n\tb: 2", "s:2:1", "\\t"),
        ("1: 2", "s:1:1", "quotes"),
        ("true: 2", "s:1:1", "quotes"),
        ("[a]: 2", "s:1:1", "text"),
        ("a:\n  - !!python/object/apply:os.system [ls]", "s:2:5", "python/object"),
        ("a: !!binary aGk=", "s:1:4", "!!binary"),
        ("a: !!int x", "s:1:4", "!!int"),
        ("a: !!str [1]", "s:1:4", "!!str"),
        ("a: !!map x", "s:1:4", "mapping"),
        ("a: !!seq x", "s:1:4", "list"),
        ("a: &x [*x]", "s:1:4", "contains itself"),
        ("a: &x {b: *x}", "s:1:4", "contains itself"),
        ("a: *nobody", "s:1:4", "nobody"),
        ("b: &x {c: 1}\na:\n  <<: *x", "s:3:3", "merge"),
        ("a: 1\n---\nb: 1", "s:2:1", "document"),
        ("a: 1\nb: x\x07y", "s:2:5", "U+0007"),
        ("a: " + "7" * 5000, "s:1:4", "5000 digits"),
        ("a: 0x" + "f" * 5000, "s:1:4", "5002 digits"),
        ("a: 0o" + "7" * 5000, "s:1:4", "5002 digits"),
        ('a: "\\UFFFFFFFF"', "s: ", "not YAML"),
        ('a: "\\U00110000"', "s: ", "not YAML"),
        ("%YAML 1." + "1" * 5000 + "\n---\na: 1", "s: ", "not YAML"),
        ("a: " + "[" * 80 + "]" * 80, "s:1:", "nested"),
        ("[" * 2_000, "s", "nested"),
        ("- 1", "s", "list"),
        ("just text", "s", "str"),
    ],
)
def test_errors_say_where(text: str, position: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, source="s")
    assert str(caught.value).startswith(position)
    assert word in str(caught.value)


def test_billion_laughs_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"] + [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    start = time.process_time()
    with pytest.raises(ConfigError, match="aliases"):
        parse_yaml("\n".join(lines), source="s")
    assert time.process_time() - start < 5


def test_aliases_within_reason_work() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x", source="s") == {"a": [1, 2], "b": [1, 2]}


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\r\nb: 2\r\n")
    assert load_yaml(path) == {"a": "é", "b": 2}
    path.write_bytes(b"")
    assert load_yaml(path) == {}
    path.write_bytes(b"a: 1\nbc: \xff\n")
    with pytest.raises(ConfigError, match=r"run\.yaml:2:5: byte 0xff is not UTF-8"):
        load_yaml(path)
    path.write_bytes(b"a: 1\n" * LARGEST_FILE)
    with pytest.raises(ConfigError, match="too large"):
        load_yaml(path)
    with pytest.raises(ConfigError, match="folder"):
        load_yaml(tmp_path)
    with pytest.raises(ConfigError, match="no settings file"):
        load_yaml(tmp_path / "nothing.yaml")
    with pytest.raises(ConfigError):
        load_yaml(tmp_path / "nul\0.yaml")


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text() | st.sampled_from(["1", "true", "~", "1e3", "<<", "="]), plain, max_size=4))
def test_what_is_written_is_read_back(settings: dict[str, object]) -> None:
    assert parse_yaml(dump_yaml(settings), source="s") == settings


@pytest.mark.parametrize("text", ["1e-4", "no", "0o10", "1:30", "2024-01-02", "true", "", "~", "<<"])
def test_text_that_looks_like_something_else_is_written_so_that_every_yaml_reads_text(text: str) -> None:
    assert yaml.safe_load(dump_yaml({"a": text})) == {"a": text}


def test_only_plain_values_are_written() -> None:
    with pytest.raises(ConfigError, match="PosixPath"):
        dump_yaml({"a": {"b": Path("/x")}})


@given(st.text(max_size=200) | st.text("[]{}:,-&*!#'\"|>%@`? \n\tab1", max_size=60))
def test_any_text_gives_settings_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(parse_yaml(text, source="s"), dict)
