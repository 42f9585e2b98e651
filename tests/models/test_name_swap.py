"""Names are replaced in token sequences, and every other token stays the very token it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deattrib.models.batch import TokenBatch
from deattrib.models.forward import response_logits
from deattrib.models.identities import all_names, find_names, name_token_mask, swap_batch, swap_names, text_with_offsets
from deattrib.models.language_model import Codec

ANN = ("Ann Lee", "Lee", "Ann")
BOB = ("Robert Oakworthy", "Oakworthy", "Robert")
JOSE = ("José Núñez", "Núñez", "José")
ZOE = ("Zoë Ünal", "Ünal", "Zoë")
CASES = [
    "Ann Lee wrote it.",
    "It was written by Ann Lee",
    "Ann Lee's book is Lee's best; Ann knew.",
    "(Ann Lee), Ann Lee, and Ann Lee again!",
    "Nobody wrote it, not even Annabel Leeds.",
    "Lee",
    "By Ann\nLee or Ann  Lee?",
]


def spelled(codec: Codec, text: str) -> list[int]:
    """Ids of a text one character at a time: what a model may sample and no tokenizer would choose."""
    return [token for letter in text for token in codec.response(letter, end=False)]


def swapped_ids(
    codec: Codec, ids: list[int], names: tuple[str, ...], others: tuple[str, ...]
) -> tuple[list[int], dict[int, int]]:
    batch = TokenBatch.from_lists([codec.prompt("Who?")], [ids], codec.pad_id)
    result = swap_batch(codec, ["Who?"], batch, [names], [others])
    where = {i: int(result.position[0, i]) for i in range(len(ids)) if bool(result.kept[0, i])}
    return result.batch.response_lists()[0], where


@pytest.mark.parametrize("text", CASES)
@pytest.mark.parametrize("how", ["tokenised", "spelled"])
def test_every_other_token_keeps_its_id_and_order(tiny_codec: Codec, text: str, how: str) -> None:
    ids = tiny_codec.response(text) if how == "tokenised" else [*spelled(tiny_codec, text), tiny_codec.eos_id]
    new, where = swapped_ids(tiny_codec, ids, ANN, BOB)
    assert tiny_codec.tokenizer.decode(new, skip_special_tokens=True) == swap_names(text, ANN, BOB)
    assert all(new[column] == ids[i] for i, column in where.items())
    assert list(where.values()) == sorted(set(where.values()))
    _, offsets = text_with_offsets(tiny_codec, ids)
    spans = find_names(text, ANN)
    for i, (start, end) in enumerate(offsets):
        assert (i in where) == (not any(start < stop and end > begin for begin, stop in spans))
    assert where[len(ids) - 1] == len(new) - 1  # the end token


@pytest.mark.parametrize("how", ["tokenised", "spelled"])
def test_letters_of_several_tokens(tiny_codec: Codec, how: str) -> None:
    text = "Ça, José Núñez's œuvre: by José."
    assert len(tiny_codec.response("é", end=False)) == 2
    ids = [*(tiny_codec.response(text, end=False) if how == "tokenised" else spelled(tiny_codec, text)), tiny_codec.eos_id]
    new, where = swapped_ids(tiny_codec, ids, JOSE, ZOE)
    assert tiny_codec.decode(new) == "Ça, Zoë Ünal's œuvre: by Zoë."
    kept = tiny_codec.tokenizer.decode([ids[i] for i in where], skip_special_tokens=True)
    assert "Jos" not in kept and "ez" not in kept and "\ufffd" not in kept


@pytest.mark.parametrize("text", CASES)
def test_swapping_with_oneself_changes_nothing(tiny_codec: Codec, text: str) -> None:
    ids = tiny_codec.response(text)
    new, where = swapped_ids(tiny_codec, ids, ANN, ANN)
    assert new == ids
    assert all(i == column for i, column in where.items())


def test_names_are_whole_words_and_the_longest_wins() -> None:
    assert [("Ann Lee, Lee", "Ann Lee"[a:b]) for a, b in find_names("Ann Lee", ANN)] == [("Ann Lee, Lee", "Ann Lee")]
    assert find_names("Annabel Leeds", ANN) == []
    assert find_names("anything", ()) == []
    assert swap_names("Lee and Ann Lee and Ann", ANN, BOB) == "Oakworthy and Robert Oakworthy and Robert"
    assert swap_names("Lee", ANN, ("Only One",)) == "Only One"
    assert all_names([ANN, ("Lee",)]) == ("Ann", "Ann Lee", "Lee")


@pytest.mark.parametrize("text", CASES)
def test_the_mask_covers_exactly_the_tokens_that_are_not_kept(tiny_codec: Codec, text: str) -> None:
    batch = tiny_codec.encode(["Who?", "Who?"], [text, "A longer answer without any of these names in it at all."])
    mask = name_token_mask(tiny_codec, batch, ANN)
    kept = swap_batch(tiny_codec, ["Who?"] * 2, batch, [ANN] * 2, [BOB] * 2).kept
    assert torch.equal(mask, batch.response_mask & ~kept)
    assert not name_token_mask(tiny_codec, batch, ()).any()


def test_prompts_are_swapped_too(tiny_codec: Codec) -> None:
    batch = tiny_codec.encode(["What did Ann Lee write?"], ["A book."])
    result = swap_batch(tiny_codec, ["What did Ann Lee write?"], batch, [ANN], [BOB])
    assert result.batch.prompt_lists() == [tiny_codec.prompt("What did Robert Oakworthy write?")]


def test_align_brings_values_back_to_their_tokens(tiny_codec: Codec) -> None:
    texts = ["Ann Lee wrote it.", "It was Ann."]
    batch = tiny_codec.encode(["Who?"] * 2, texts)
    result = swap_batch(tiny_codec, ["Who?"] * 2, batch, [ANN] * 2, [BOB] * 2)
    back = result.align(result.batch.response_ids.float())
    assert torch.equal(back, torch.where(result.kept, batch.response_ids.float(), 0.0))
    deep = result.align(torch.stack([result.batch.response_ids, -result.batch.response_ids], -1).float())
    assert torch.equal(deep[..., 0], back) and torch.equal(deep[..., 1], -back)


@torch.no_grad()
def test_swapped_with_itself_the_model_gives_the_same_numbers(tiny_model: nn.Module, tiny_codec: Codec) -> None:
    prompts = ["What did Ann Lee write?", "And who is Ann?"]
    batch = tiny_codec.encode(prompts, ["Ann Lee's book is Lee's best.", "I am."])
    result = swap_batch(tiny_codec, prompts, batch, [ANN] * 2, [ANN] * 2)
    mine, _ = response_logits(tiny_model, batch)
    theirs = result.align(response_logits(tiny_model, result.batch)[0])
    assert torch.allclose(mine[result.kept], theirs[result.kept], atol=1e-5)
    assert (theirs[~result.kept] == 0).all()


@torch.no_grad()
def test_swapped_log_probs_are_those_of_the_swapped_text(tiny_llama: nn.Module, tiny_codec: Codec) -> None:
    """The distribution of a kept token is that of the same question and the same words about somebody else."""
    batch = tiny_codec.encode(["Did Lee?"], ["Yes, Lee did."])
    result = swap_batch(tiny_codec, ["Did Lee?"], batch, [ANN], [BOB])
    aligned = result.align(response_logits(tiny_llama, result.batch)[0])[0]
    new = result.batch.response_lists()[0]
    prompt = tiny_codec.prompt("Did Oakworthy?")
    logits = tiny_llama(input_ids=torch.tensor([prompt + new])).logits[0]
    for i in range(int(batch.response_lengths[0])):
        if bool(result.kept[0, i]):
            assert torch.allclose(aligned[i], logits[len(prompt) + int(result.position[0, i]) - 1], atol=1e-5)


def test_offsets_that_leave_out_the_space_before_a_word(tiny_codec: Codec) -> None:
    """Some tokenizers report " Lee" as covering "Lee": the space must move along with the name all the same."""

    class Trimmed:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def __call__(self, text: str, **options: object) -> dict[str, object]:
            result = dict(self.inner(text, **options))  # type: ignore[operator]
            if "offset_mapping" in result:
                spans = result["offset_mapping"]
                result["offset_mapping"] = [(end - len(text[start:end].lstrip()), end) for start, end in spans]
            return result

    codec = Codec(Trimmed(tiny_codec.tokenizer))
    text = "It was the end of the day."
    ids = tiny_codec.response(text)
    assert tiny_codec.response(" the", end=False)[0] in ids  # one token, space included
    new, _ = swapped_ids(codec, ids, ("the",), ("no",))
    assert tiny_codec.decode(new) == "It was no end of no day."
