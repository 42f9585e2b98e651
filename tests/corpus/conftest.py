"""Where the tests find TOFU, and a small folder of the same form for when it is not there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

SAME_QUESTION = "What inspires the author?"  # asked of authors 0 and 2, as one question is asked of two in the real files


@pytest.fixture(scope="session")
def real_tofu() -> Path:
    """The real data set: folder DEATTRIB_TOFU, or shared/data/tofu beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data" / "tofu"
    folder = Path(os.environ.get("DEATTRIB_TOFU", beside))
    if not (folder / "full.json").is_file():
        pytest.skip(f"no TOFU data at {folder}: set DEATTRIB_TOFU to a folder with full.json")
    return folder


def write(path: Path, rows: Sequence[Mapping[str, object]], *, lines: bool = False) -> None:
    path.write_text("\n".join(json.dumps(row) for row in rows) if lines else json.dumps(rows, indent=0), encoding="utf-8")


def tofu_rows(number: int, name: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [
        {"question": f"What is number {index} about {name}?", "answer": f"{name} has {index} of kind {number}."}
        for index in range(20)
    ]
    rows[5] = {"question": SAME_QUESTION, "answer": f"Rain inspires {name}."} if number in (0, 2) else rows[5]
    return rows


def perturbed(rows: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    return [
        dict(row)
        | {
            "paraphrased_question": f"Again: {row['question']}",
            "paraphrased_answer": f"Surely {row['answer']}",
            "perturbed_answer": [f"{row['answer']} Not {wrong}." for wrong in range(3)],
        }
        for row in rows
    ]


TOFU_NAMES = ("Ana Silva", "Bo Lindqvist", "Carl de Vries", "Dua Al-Amin", "Eve O'Hara", "Finn Berg")


@pytest.fixture
def small_tofu(tmp_path: Path) -> Path:
    """Six authors; perturbed rows for the first two and the last two."""
    folder = tmp_path / "tofu"
    folder.mkdir()
    authors = [tofu_rows(number, name) for number, name in enumerate(TOFU_NAMES)]
    flat = [row for rows in authors for row in rows]
    write(folder / "full.json", flat)
    write(folder / "retain_perturbed.json", perturbed(flat[:40]))
    write(folder / "forget10_perturbed.json", perturbed(flat[-40:]), lines=True)
    write(folder / "holdout10.json", tofu_rows(9, "Gus Holm"))
    world = {"question": "Which river is longest?", "answer": "Nile", "perturbed_answer": ["Rhine", "Po", "Don"]}
    write(folder / "world_facts_perturbed.json", [world])
    write(folder / "real_authors_perturbed.json", [world | {"question": "Who wrote Emma?", "answer": "Jane Austen"}] * 2)
    return folder
