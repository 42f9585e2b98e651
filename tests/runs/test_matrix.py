"""Which runs a comparison is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.runs.tiny import TINY

from deattrib.errors import ConfigError
from deattrib.runs.matrix import Matrix, read_variants


def matrix(**changes: Any) -> Matrix:
    given: dict[str, Any] = {"rewards": {}, "methods": {}, "seeds": (0, 1), "variants": {}, "tuned": {}, **changes}
    return Matrix(TINY, **given)


def test_rewards_go_with_dareu_and_methods_with_the_configs_own() -> None:
    cells = matrix(
        rewards={"membership": "membership", "none": "none"}, methods={"npo:beta=0.5": {"name": "npo", "beta": 0.5}}
    ).cells()
    assert [(cell.label.entry, cell.label.seed) for cell in cells] == [
        ("dareu · membership", 0), ("dareu · membership", 1), ("dareu · none", 0), ("dareu · none", 1),
        ("npo:beta=0.5", 0), ("npo:beta=0.5", 1),
    ]  # fmt: skip
    assert cells[0].config.reward == "membership" and cells[0].config.method == "dareu"
    assert cells[5].config.reward == TINY["reward"] and cells[5].config.method == {"name": "npo", "beta": 0.5}
    assert cells[5].config.seed == 1


@pytest.mark.parametrize(
    ("changes", "entries"),
    [
        ({}, ["dareu · classifier"]),
        ({"methods": {"ga": "ga"}}, ["ga"]),
        ({"methods": {"ga": "ga", "dareu": "dareu"}}, ["dareu · classifier", "ga"]),
        ({"methods": {"ga": "ga"}, "variants": {"v": []}}, ["dareu · classifier", "ga", "dareu · classifier · v"]),
        ({"methods": {"grpo": "grpo", "anchored": "anchored"}}, ["grpo · classifier", "anchored"]),
    ],
)
def test_what_is_not_named_is_the_configs(changes: dict[str, Any], entries: list[str]) -> None:
    assert list(dict.fromkeys(cell.label.entry for cell in matrix(**changes).cells())) == entries


def test_a_variant_lies_over_everything_and_says_what_it_really_is() -> None:
    cells = matrix(
        rewards={"membership": "membership", "none": "none"},
        seeds=(3,),
        variants={"off": ["reward=none", "ppo.steps=2"], "same": [], "npo": ["method=npo"]},
        tuned={"dareu": {"ppo.steps": 9}, "npo": {"beta": 0.5}},
    ).cells()
    by_variant = {cell.label.variant: cell for cell in cells if cell.label.variant}
    assert by_variant["off"].label.entry == "dareu · none · off"
    assert by_variant["off"].config.ppo.steps == 2 and by_variant["same"].config.ppo.steps == 9
    assert by_variant["same"].label.reward == "membership"
    assert by_variant["same"].config.digest == cells[0].config.digest  # one run serves both
    assert by_variant["npo"].label.method == "npo"


def test_tuned_settings_go_to_their_method_only() -> None:
    cells = matrix(
        methods={"npo:retain=kl": {"name": "npo", "retain": "kl"}, "ga": "ga"},
        seeds=(0,),
        tuned={"npo": {"ppo.learning_rate": 0.5, "beta": 0.3}},
    ).cells()
    assert cells[0].config.ppo.learning_rate == 0.5 and cells[1].config.ppo.learning_rate != 0.5
    assert cells[0].config.method == {"name": "npo", "retain": "kl", "beta": 0.3}


def test_what_was_tuned_for_a_method_from_a_file_is_found_by_the_name_it_has(tmp_path: Path) -> None:
    """`tune` writes gentle.yaml, whatever class and file are called."""
    code = "from deattrib import Method\n\n\nclass Soft(Method):\n    name = 'gentle'\n\n"
    (tmp_path / "soft.py").write_text(code + "    def forget_loss(self, rows):\n        return self.retain_loss()\n")
    spec = f"{tmp_path / 'soft.py'}:Soft"
    cells = matrix(methods={"soft": spec}, seeds=(0,), tuned={"gentle": {"ppo.learning_rate": 0.5}}).cells()
    assert cells[0].config.ppo.learning_rate == 0.5


def test_what_a_method_says_itself_goes_over_what_was_tuned() -> None:
    methods = {f"npo:beta={beta}": {"name": "npo", "beta": beta} for beta in (0.1, 0.5)}
    methods["npo:steps=3"] = {"name": "npo", "steps": 3}
    cells = matrix(methods=methods, seeds=(0,), tuned={"npo": {"beta": 0.3, "ppo.steps": 7}}).cells()
    assert [cell.config.method["beta"] for cell in cells] == [0.1, 0.5, 0.3]  # type: ignore[index]
    assert [cell.config.ppo.steps for cell in cells] == [7, 7, TINY["ppo"]["steps"]]
    assert len({cell.config.digest for cell in cells}) == 3


def test_the_configs_own_reward_keeps_its_settings_and_its_own_method_is_not_dropped_silently() -> None:
    named = matrix(rewards={"classifier": "classifier"}, seeds=(0,)).cells()
    assert named[0].config.reward == TINY["reward"] != "classifier"
    other = {"name": "classifier", "epochs": 3}
    assert matrix(rewards={"classifier": other}, seeds=(0,)).cells()[0].config.reward == other  # said otherwise
    with pytest.raises(ConfigError, match=r"own method is 'npo'.*--methods"):
        Matrix({**TINY, "method": "npo"}, {}, {}, (0,), {}, {}).cells()
    with pytest.raises(ConfigError, match="'seven' sets the seed"):
        matrix(variants={"seven": ["seed=7"]}).cells()


def test_runs_that_differ_have_different_folders_and_share_models_where_they_can() -> None:
    cells = matrix(rewards={"none": "none", "random": "random"}, methods={"ga": "ga"}).cells()
    assert len({cell.folder_name for cell in cells}) == len(cells) == 6
    assert len({cell.models for cell in cells}) == 2


def test_wrong_settings_name_their_variant(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"(?s)Variant 'half': .*Did you mean 'steps'"):
        matrix(variants={"half": ["ppo.stepz=3"]}).cells()
    path = tmp_path / "variants.yaml"
    path.write_text("one: ppo.steps=1\ntwo: [ppo.steps=1, reward=none]\nnone: []\n")
    assert read_variants(path) == {"one": ["ppo.steps=1"], "two": ["ppo.steps=1", "reward=none"], "none": []}
    path.write_text("one: {ppo.steps: 1}\n")
    with pytest.raises(ConfigError, match=r"variants\.yaml: variant 'one'"):
        read_variants(path)


def test_the_ready_ablations_are_settings_of_the_demo() -> None:
    from deattrib.cli.compare import settings_of

    variants = read_variants(Path(__file__).parents[2] / "examples/ablations.yaml")
    cells = Matrix(settings_of("demo", []), {"classifier": "classifier"}, {}, (0,), variants, {}).cells()
    assert len(cells) == len(variants) + 1 == len({cell.config.digest for cell in cells})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(("reward", value, "reward") for value in (5, None, [None], [[]])),
        *(("method", value, "method: got") for value in (5, None, [1])),
        ("method", {}, "A method is a name or a mapping with a `name`"),
        ("method", {"name": 5}, "A method is a name or a mapping with a `name`"),
        ("seed", 2**64, "seed: got"),
    ],
)
def test_a_base_that_no_run_takes_is_refused(name: str, value: Any, message: str) -> None:
    for methods in ({}, {"npo": "npo"}):
        with pytest.raises(ConfigError, match=message):
            Matrix({**TINY, name: value}, {}, methods, (0,), {}, {}).cells()


def test_seeds_of_a_comparison_are_held_to_those_of_a_run() -> None:
    with pytest.raises(ConfigError, match="seed: got"):
        matrix(seeds=(2**64,)).cells()
