"""Prompts on the way to trl and back: text in the model's template or conversations, against the bare questions of scorers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deattrib.attribution.attributor import Attributor
from deattrib.corpus.types import Example
from deattrib.errors import ConfigError
from deattrib.models.language_model import Codec
from deattrib.trl.original import context_of, forget_rows

MARK = "\u241equestion\u241e"  # stands for the question where a template is taken apart


def prompt_dataset(attributor: Attributor, rows: Sequence[Example] | None = None) -> Any:
    """A `datasets.Dataset` of `prompt` and `owner` for a trainer of a fitted `attributor`: the forget owners' rows if None.

    Prompts are conversations where the tokenizer has a chat template, else texts in the codec's template: trl takes texts
    as they are.
    """
    from datasets import Dataset

    context = context_of(attributor)
    rows = tuple(forget_rows(context) if rows is None else rows)
    before, after = frame(context.codec)
    prompts = [
        [{"role": "user", "content": row.prompt}] if context.codec.chat else f"{before}{row.prompt}{after}" for row in rows
    ]
    return Dataset.from_dict({"prompt": prompts, "owner": [row.owner for row in rows]})


def frame(codec: Codec) -> tuple[str, str]:
    """What stands before and after a question in the model's input."""
    whole = codec.template.replace("{prompt}", MARK)
    if codec.chat:
        messages = [{"role": "user", "content": MARK}]
        whole = str(codec.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    before, _, after = whole.partition(MARK)
    return before, after


def question(codec: Codec, prompt: Any) -> tuple[str, list[int]]:
    """The question as scorers know it, and the ids that the model was asked with."""
    if not isinstance(prompt, str):
        if not codec.chat:
            raise ConfigError(
                f"The prompts are conversations, but the attributor's template is {codec.template!r}: its scale was measured "
                "on other inputs. Fit it with Codec(tokenizer) of a tokenizer with a chat template, or give prompts as text."
            )
        if not prompt or prompt[-1].get("role") != "user":
            raise ConfigError(f"A conversation must end with a question of the role 'user', this one is {str(prompt)[:120]}.")
        rendered = codec.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        return text_of(prompt[-1:]), list(codec.tokenizer(rendered, add_special_tokens=False)["input_ids"])
    before, after = frame(codec)
    if not (prompt.startswith(before) and prompt.endswith(after) and len(prompt) >= len(before) + len(after)):
        raise ConfigError(
            f"The prompt {prompt[:80]!r} is not in the attributor's template, {before!r} before and {after!r} after the "
            "question: trl gives prompts to the model as they are, and the scale was measured with the template. Use "
            "deattrib.trl.prompt_dataset, or fit the attributor with Codec(tokenizer, template='{prompt}')."
        )
    text = prompt[len(before) : len(prompt) - len(after)]
    return text, codec.prompt(text)


def text_of(message: Any) -> str:
    """The text of a completion or of messages, whose content may be text or a list of parts."""
    if isinstance(message, str):
        return message
    contents = [item["content"] for item in message]
    parts = [part for content in contents for part in ([content] if isinstance(content, str) else content)]
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts)
