"""Where a prompt ends and a response begins and ends, in token ids."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from deattrib.errors import ModelError
from deattrib.models.language_model import Codec

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def test_prompt_and_response_are_tokenised_apart(tiny_codec: Codec) -> None:
    tokenizer = tiny_codec.tokenizer
    assert tokenizer.decode(tiny_codec.prompt("Who?")) == "Who?\n"
    assert tiny_codec.response("Nobody.") == [*tokenizer("Nobody.")["input_ids"], tiny_codec.eos_id]
    assert tiny_codec.response("Nobody.", end=False) == tokenizer("Nobody.")["input_ids"]
    assert tiny_codec.response("") == [tiny_codec.eos_id]


def test_decoding_leaves_special_tokens_out(tiny_codec: Codec) -> None:
    assert tiny_codec.decode([*tiny_codec.response(" Nobody. "), tiny_codec.eos_id]) == "Nobody."


def test_a_template_of_ones_own(tiny_tokenizer: Any) -> None:
    codec = Codec(tiny_tokenizer, template="Q: {prompt} A:")
    assert tiny_tokenizer.decode(codec.prompt("Who?")) == "Q: Who? A:"
    with pytest.raises(ModelError, match="prompt"):
        Codec(tiny_tokenizer, template="Q:")


def test_the_chat_template_is_used_where_there_is_one(tiny_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.chat_template = CHAT
    codec = Codec(tokenizer)
    assert tokenizer.decode(codec.prompt("Who?")) == "<user>Who?<assistant>"
    assert tokenizer.decode(Codec(tokenizer, template="{prompt}!").prompt("Who?")) == "Who?!"


def test_a_tokenizer_that_closes_prompts_by_itself(tiny_tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(tiny_tokenizer)
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    assert tokenizer("Who?")["input_ids"][-1] == tokenizer.eos_token_id
    assert Codec(tokenizer).prompt("Who?") == Codec(tiny_tokenizer).prompt("Who?")
    assert Codec(tokenizer).response("Me.") == Codec(tiny_tokenizer).response("Me.")


def test_prompts_that_cannot_be_used_are_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(ModelError, match="no tokens"):
        Codec(tiny_tokenizer, template="{prompt}").prompt("")
    with pytest.raises(ModelError, match="more than the 3"):
        Codec(tiny_tokenizer, max_prompt_tokens=3).prompt("a b c d e f g")


def test_without_an_end_token_nothing_could_end(tiny_tokenizer: Any) -> None:
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="end-of-sequence"):
        Codec(tokenizer)
