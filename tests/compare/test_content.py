"""What a comparison says about its runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deattrib.compare.content import build_content, spread
from deattrib.compare.folders import ComparedRun, Label, find_runs, read_run

Make = Callable[..., ComparedRun]
SEEDS = (0, 1, 2)


def content(*runs: ComparedRun) -> dict[str, Any]:
    return build_content("test", runs, beside=Path("."), samples=100)


def entry(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["entries"] if one["name"] == name)


def test_medians_and_ranges_are_over_seeds(make_run: Make) -> None:
    found = entry(content(*[make_run(seed=seed, forget_rouge=0.1 * seed) for seed in SEEDS]), "dareu · classifier")
    assert found["figures"]["forget_rouge"] == {"median": pytest.approx(0.1), "low": 0.0, "high": pytest.approx(0.2)}
    assert [run["seed"] for run in found["runs"]] == [0, 1, 2]
    scores = [run["score"] for run in found["runs"]]
    assert found["score"] == spread(scores) and found["seconds"]["median"] == 12.5


def test_the_best_comes_first_and_what_collapsed_or_retrains_never_leads(make_run: Make, failed_run: ComparedRun) -> None:
    found = content(
        *[make_run("npo", seed=seed, share=0.4) for seed in SEEDS],
        *[make_run("ga", seed=seed, share=0.0, gibberish_rate=0.6) for seed in SEEDS],
        *[make_run("dareu", "exact", seed=seed, share=0.0) for seed in SEEDS],
        *[make_run("dareu", seed=seed, share=0.1) for seed in SEEDS],
        failed_run,
    )
    names = [one["name"] for one in found["entries"]]
    assert names == ["dareu · classifier", "npo", "dareu · exact", "ga", "rmu"]
    assert found["leader"] == "dareu · classifier"
    assert entry(found, "ga")["score"]["median"] > entry(found, "dareu · classifier")["score"]["median"]
    assert "3 of 3 seeds" in entry(found, "ga")["collapsed"] and not entry(found, "ga")["contends"]
    assert entry(found, "dareu · exact")["ceiling"]
    assert entry(found, "rmu")["runs"][0]["error"] == "layer 9 does not exist" and entry(found, "rmu")["score"] is None


def test_one_collapsed_seed_of_three_is_said_and_does_not_disqualify(make_run: Make) -> None:
    found = content(*[make_run(seed=seed, gibberish_rate=0.5 if seed == 1 else 0.0) for seed in SEEDS])
    one = found["entries"][0]
    assert one["collapsed"].startswith("1 of 3") and one["contends"]


def test_differences_are_only_between_entries_on_the_same_seeds(make_run: Make) -> None:
    found = content(
        *[make_run(seed=seed, share=0.02) for seed in SEEDS],
        *[make_run("npo", seed=seed, share=0.5) for seed in SEEDS],
        make_run("ga", seed=0, share=0.5),
    )
    behind = entry(found, "npo")["behind"]
    assert behind["high"] < 0 and behind["better"] == 0
    assert behind["value"] == pytest.approx(entry(found, "npo")["score"]["median"] - found["entries"][0]["score"]["median"])
    assert entry(found, "ga")["behind"] is None and found["entries"][0]["behind"] is None


def test_results_on_fewer_seeds_than_others_never_lead(make_run: Make) -> None:
    failed = [
        ComparedRun(f"npo-{seed}", Label("npo", "classifier", "", seed), None, None, None, {}, {}, "x") for seed in (1, 2)
    ]
    found = content(
        make_run("npo", seed=0, share=0.0, rows=False), *failed, *[make_run(seed=seed, share=0.3) for seed in SEEDS]
    )
    npo = entry(found, "npo")
    assert npo["score"]["median"] > entry(found, "dareu · classifier")["score"]["median"]
    assert found["leader"] == "dareu · classifier" and not npo["contends"]
    assert npo["incomplete"] == "results on 1 of 3 seeds" and npo["interval"] is None  # one run: there is nothing to draw


def test_variants_belong_to_the_first_reward_whichever_is_best(make_run: Make) -> None:
    found = content(
        *[make_run(seed=seed, share=0.4) for seed in SEEDS],
        *[make_run(reward="membership", seed=seed, share=0.0) for seed in SEEDS],
        *[make_run(variant="v", seed=seed, share=0.4) for seed in SEEDS],
        *[make_run("npo", variant="w", seed=seed) for seed in SEEDS],
    )
    assert found["leader"] == "dareu · membership" and found["base"] == "dareu · classifier"
    assert abs(entry(found, "dareu · classifier · v")["against_base"]["value"]) < 1e-9
    assert entry(found, "npo · w")["against_base"] is None


def test_mixed_settings_and_doubled_seeds_of_one_entry_are_warned_of(make_run: Make) -> None:
    first, second = make_run(seed=0), make_run(seed=0)
    other = replace(second, config={**second.config, "ppo": {"steps": 9, "note": ""}})
    warnings = " ".join(content(first, other)["warnings"])
    assert "'dareu · classifier' differ in ppo.steps." in warnings and "more than one run of seed 0" in warnings
    assert content(*[make_run(seed=seed) for seed in SEEDS])["warnings"] == []


def test_variants_are_compared_with_the_entry_without_any(make_run: Make) -> None:
    found = content(
        *[make_run(seed=seed) for seed in SEEDS],
        *[make_run(variant="no anchor", seed=seed, share=0.3) for seed in SEEDS],
    )
    assert found["base"] == "dareu · classifier"
    variant = entry(found, "dareu · classifier · no anchor")
    assert variant["against_base"]["value"] < 0
    assert found["settings"]["own"][variant["name"]] == [["ppo.note", "no anchor"]]
    assert ["ppo.steps", "45"] in found["settings"]["shared"]
    assert not any(path == "seed" for path, _ in found["settings"]["shared"])


def test_the_score_is_over_what_all_have_and_the_rest_is_said(make_run: Make) -> None:
    lacking = make_run("npo", seed=0, attribution=None)
    lacking.rows["oracle"]["attribution"] = None  # type: ignore[index]
    found = content(make_run(seed=0), lacking)
    assert "attribution" not in found["parts"] and len(found["parts"]) == 7
    assert any("attribution" in text for text in found["warnings"])


def test_different_oracles_versions_and_missing_oracles_are_warned_of(make_run: Make) -> None:
    first, second = make_run(), make_run("npo", rows=False)
    assert second.metrics is not None
    rows: Any = json.loads(json.dumps(second.metrics["rows"]))
    rows["oracle"]["forget_rouge"] += 0.1
    other = replace(second, metrics={**second.metrics, "rows": rows}, versions={"torch": "2.6.0"})
    warnings = " ".join(content(first, other)["warnings"])
    assert "different oracles" in warnings and "different versions of torch" in warnings
    bare = replace(second, metrics={**second.metrics, "rows": {"unlearned": rows["unlearned"], "oracle": None}})
    found = content(bare)
    assert found["parts"] == [] and found["leader"] is None and "no score" in found["warnings"][0]


def test_references_are_counted_once_per_seed(make_run: Make) -> None:
    found = content(*[make_run(method, seed=seed) for method in ("npo", "ga") for seed in SEEDS])
    assert found["references"]["oracle"]["seeds"] == 3
    assert found["references"]["oracle"]["score"]["median"] == pytest.approx(1)
    assert 0.5 < found["references"]["oracle_second"]["score"]["median"] < 1


def test_folders_without_labels_are_told_apart_by_their_names(make_run: Make, tmp_path: Path) -> None:
    names = ("classifier-seed0", "demo-classifier-seed1", "anchored-alone-seed0", "demo-npo-classifier-seed0-2")
    for name in (*names, "dareu-classifier-seed2-0c08f357", "classifier-trak-seed0"):
        reward = "classifier+trak" if "trak" in name else "classifier"
        run = make_run("npo" if "npo" in name else "dareu", reward, seed=int(name.split("seed")[1][0]))
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps(run.metrics))
        (folder / "manifest.json").write_text(json.dumps({"versions": {"torch": "2"}}))
        (folder / "config.yaml").write_text("name: demo\n")
    (tmp_path / "unfinished").mkdir()
    found = {run.name: run.label.entry for run in find_runs(tmp_path.iterdir())}
    assert found == {
        "classifier-seed0": "dareu · classifier",
        "demo-classifier-seed1": "dareu · classifier",
        "anchored-alone-seed0": "dareu · classifier · anchored-alone",
        "demo-npo-classifier-seed0-2": "npo · demo-npo-classifier-2",  # a second folder of that name: other settings
        "dareu-classifier-seed2-0c08f357": "dareu · classifier",  # as a comparison names its folders
        "classifier-trak-seed0": "dareu · classifier+trak",
    }


def test_attacks_made_after_the_run_count(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    (tmp_path / "metrics.json").write_text(json.dumps(run.metrics))
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "config.yaml").write_text("{}")
    figures = {"original": 0.9, "oracle": 0.1, "unlearned": 0.3, "oracle_second": 0.1, "nobody": 1.0}
    later = {"rows": {model: {"relearn": {"figure": value, "curve": [[0, value]]}} for model, value in figures.items()}}
    (tmp_path / "attacks.json").write_text(json.dumps(later))
    found = content(read_run(tmp_path, run.label))
    assert "attacks" in found["parts"]
    assert found["entries"][0]["closeness"]["attacks"]["median"] == pytest.approx(0.75)
    assert found["entries"][0]["figures"]["attack relearn"]["median"] == 0.3
    assert found["entries"][0]["attack_curves"]["relearn"]["unlearned"] == [[[0, 0.3]]]


def test_a_config_that_is_no_text_is_a_row_with_an_error(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    for name, value in {"metrics.json": run.metrics, "manifest.json": {}}.items():
        (tmp_path / name).write_text(json.dumps(value))
    (tmp_path / "config.yaml").write_bytes(b"name: \xff\n")
    again = read_run(tmp_path, run.label)
    assert again.metrics is None and again.error


def test_a_bomb_in_a_runs_config_is_a_row_with_an_error(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    for name, value in {"metrics.json": run.metrics, "manifest.json": {}}.items():
        (tmp_path / name).write_text(json.dumps(value))
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    (tmp_path / "config.yaml").write_text(bomb)
    again = read_run(tmp_path, run.label)
    assert again.metrics is None and "config.yaml" in again.error


def test_a_damaged_folder_is_a_run_with_an_error(make_run: Make, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{")
    run = read_run(tmp_path, make_run().label)
    assert run.metrics is None and "not JSON" in run.error
    assert "Has the run finished" in read_run(tmp_path / "nowhere", run.label).error
