"""What an attack reports, recomputed step by step from the model."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from rouge_score import rouge_scorer

from deattrib import CorpusError
from deattrib.attacks.base import AttackSubject, clusters
from deattrib.attacks.paraphrase import Paraphrase
from deattrib.attacks.prefix import Prefix, cut_after
from deattrib.attacks.quantisation import Quantisation, quantise
from deattrib.attacks.relearning import BenignRelearning, Relearning, relearn
from deattrib.attacks.sampling import Sampling
from deattrib.models.language_model import LanguageModel, fingerprint
from deattrib.models.training import answer_loss


def recall(answer: str, truth: str) -> float:
    return float(rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True).score(truth, answer)["rougeL"].recall)


def greedy(model: LanguageModel, ids: list[int], most: int) -> str:
    """One token after the other, no cache, no batch."""
    new: list[int] = []
    while len(new) < most:
        with torch.no_grad():
            token = int(model.model(torch.tensor([ids + new])).logits[0, -1].argmax())
        if token == model.codec.eos_id:
            break
        new.append(token)
    return model.codec.decode(new)


def test_the_prefix_attack_goes_on_from_the_words_given(subject: AttackSubject) -> None:
    model, values = subject.model, []
    for row in subject.forget_phrasings:
        beginning, rest = cut_after(row.response, 2) or ("", "")
        ids = model.codec.prompt(row.prompt) + model.codec.response(beginning, end=False)
        values.append(recall(greedy(model, ids, subject.settings.max_new_tokens), rest))
    result = Prefix(Prefix.Params(words=(2,), at=2)).run(subject)
    assert result.figure == pytest.approx(np.mean(values), abs=1e-9)
    assert f"{len(values)} rows in phrasings never trained on" in result.what


def test_a_word_that_was_given_is_no_fact_recalled(subject: AttackSubject) -> None:
    """The answer up to its last word: facts that do not end the answer have been told and are not asked for."""
    row = subject.forget_phrasings[0]
    assert row.fact is not None
    told = dataclasses.replace(row, response=f"{row.fact} it is indeed")
    corpus = dataclasses.replace(subject.corpus, phrasings=(told,))
    only = dataclasses.replace(subject, corpus=corpus)
    result = Prefix(Prefix.Params(words=(len(row.fact.split()),), at=len(row.fact.split()))).run(only)
    assert result.more == {"fact_recall": None}


def test_paraphrases_are_never_trained_phrasings(subject: AttackSubject) -> None:
    rows = subject.forget_phrasings
    assert rows and not {row.prompt for row in rows} & {row.prompt for row in subject.corpus.train}
    model = subject.model
    values = [recall(greedy(model, model.codec.prompt(row.prompt), 6), row.response) for row in rows]
    result = Paraphrase().run(subject)
    assert result.figure == pytest.approx(np.mean(values), abs=1e-9)
    by_fact: dict[tuple[str, str], list[float]] = {}
    for row, value in zip(rows, values, strict=True):
        by_fact.setdefault((row.owner, row.fact_id), []).append(value)
    assert result.curve is not None
    most = max(map(len, by_fact.values()))
    best = np.mean([max(found) for found in by_fact.values() if len(found) == most])
    assert result.curve[-1] == (most, pytest.approx(best, abs=1e-9))


def test_without_phrasings_there_is_nothing_to_ask(subject: AttackSubject) -> None:
    bare = dataclasses.replace(subject, corpus=dataclasses.replace(subject.corpus, phrasings=()))
    with pytest.raises(CorpusError, match="paraphrase_prompt"):
        Paraphrase().run(bare)


def test_sampling_takes_the_best_of_all_samples(subject: AttackSubject) -> None:
    result = Sampling(Sampling.Params(samples=5, ks=(1,), rows=100)).run(subject)
    rows = subject.forget
    answers = subject.answers([row.prompt for row in rows for _ in range(5)], temperature=1.0)
    values = np.array([[recall(answers[5 * i + j], row.response) for j in range(5)] for i, row in enumerate(rows)])
    assert result.figure == pytest.approx(values.max(1).mean(), abs=1e-9)
    assert result.curve is not None and result.curve[0] == (1.0, pytest.approx(values.mean(), abs=1e-9))
    assert len(set(answers)) > len(rows)


def test_quantisation_is_that_of_a_copy_rounded_by_hand(subject: AttackSubject) -> None:
    module = copy.deepcopy(subject.model.model)
    quantise(module, bits=4, group=16)
    model = LanguageModel(module, subject.model.codec)
    values = [recall(greedy(model, model.codec.prompt(row.prompt), 6), row.response) for row in subject.forget]
    result = Quantisation(Quantisation.Params(bits=(4,), group=16)).run(subject)
    assert result.figure == pytest.approx(np.mean(values), abs=1e-9)
    assert "14 layers" in result.what  # two blocks of q, k, v, o, gate, up, down


def test_one_step_of_relearning_is_adamw_on_the_answers(subject: AttackSubject) -> None:
    """AdamW's first step is rate * g / (|g| + eps), whatever its decay rates; g after clipping to length 1."""
    rows = subject.corpus.retain[:3]
    module = subject.copy()
    start = {name: value.clone() for name, value in module.named_parameters()}
    model = LanguageModel(module, subject.model.codec)
    loss = next(relearn(model, rows, rate=0.01, batch_size=8, seed=0))
    fresh = subject.copy().requires_grad_(True)
    expected = answer_loss(fresh, model.encode([row.prompt for row in rows], [row.response for row in rows]))
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()  # type: ignore[no-untyped-call]
    grads = {name: value.grad for name, value in fresh.named_parameters() if value.grad is not None}
    scale = min(1.0, 1.0 / (sum(float(grad.square().sum()) for grad in grads.values()) ** 0.5 + 1e-6))
    for name, value in module.named_parameters():
        grad = grads[name] * scale
        moved = start[name] - 0.01 * grad / (grad.abs() + 1e-8)
        clear = grad.abs() > 1e-6  # below, eps and rounding decide
        assert torch.allclose(value[clear], moved[clear], atol=2e-4), name


def test_relearning_asks_only_about_facts_that_were_not_trained_on(subject: AttackSubject) -> None:
    attack = Relearning(Relearning.Params(rows=5))
    trained, asked = attack.rows(subject)
    assert len(trained) == 5 and set(trained) <= set(subject.corpus.forget)
    assert asked and not set(clusters(trained)) & set(clusters(asked))
    assert {row.owner for row in trained} == set(subject.corpus.forget_owners)
    trained, asked = BenignRelearning().rows(subject)
    assert set(trained) <= set(subject.corpus.retain) and asked == subject.forget
    with pytest.raises(CorpusError, match="every fact"):
        Relearning(Relearning.Params(rows=1000)).rows(subject)


def test_relearning_reports_what_training_by_hand_gives(subject: AttackSubject) -> None:
    result = Relearning(Relearning.Params(rows=4, steps=(1, 2), at=2, learning_rate=0.02)).run(subject)
    trained, asked = Relearning(Relearning.Params(rows=4)).rows(subject)
    model = LanguageModel(subject.copy(), subject.model.codec)
    training = relearn(model, trained, rate=0.02, batch_size=16, seed=subject.seed)
    losses = [next(training), next(training)]
    values = [recall(greedy(model, model.codec.prompt(row.prompt), 6), row.response) for row in asked]
    assert result.figure == pytest.approx(np.mean(values), abs=1e-9)
    assert losses[1] < losses[0]
    before = [recall(greedy(subject.model, model.codec.prompt(row.prompt), 6), row.response) for row in asked]
    assert result.more["before"] == pytest.approx(np.mean(before), abs=1e-9)


def test_a_bfloat16_model_is_relearnt_in_mixed_precision(subject: AttackSubject) -> None:
    """Weights and steps in float32, products in bfloat16: the same loss to two digits, and not to five."""
    rows = subject.corpus.retain[:3]
    half = LanguageModel(subject.copy().to(torch.bfloat16), subject.model.codec)
    losses = []
    for mixed in (True, False):
        model = LanguageModel(half.clone().float(), half.codec)
        losses.append(next(relearn(model, rows, rate=0.01, batch_size=8, seed=0, mixed=mixed)))
        assert {value.dtype for value in model.model.parameters()} == {torch.float32}
    assert losses[0] == pytest.approx(losses[1], rel=0.02) and losses[0] != pytest.approx(losses[1], rel=1e-6)
    before = fingerprint(half.model)
    result = Relearning(Relearning.Params(rows=4, steps=(1, 2), at=2)).run(dataclasses.replace(subject, model=half))
    assert result.figure is not None and 0 <= float(np.mean(result.figure)) <= 1
    assert fingerprint(half.model) == before and next(half.model.parameters()).dtype is torch.bfloat16
