"""What the original model's likelihood is compared with, for every scorer that compares one."""

from __future__ import annotations

from deattrib import LanguageModel, ScorerContext, ScorerError, load_language_model


def find_reference(wanted: str, context: ScorerContext, *, scorer: str) -> tuple[str, LanguageModel | None]:
    """The kind of reference, and its model where it is another one than the original.

    Args:
        wanted: 'counterfactual', 'base', a model folder, or 'auto' (the first of the former two that is there).
        scorer: its name, for messages.

    Raises:
        ScorerError: there is no base model to compare with.
    """
    kind = wanted
    if kind == "auto":
        kind = "counterfactual" if context.can_swap else "base"
    if kind == "counterfactual":
        return kind, None
    if kind != "base":
        return kind, load_language_model(kind, codec=context.codec, device=context.device, dtype=context.dtype)
    if context.base is None:
        raise ScorerError(
            f"{scorer} needs something to compare the original model with: names per owner (reference "
            "'counterfactual'), the model before it was trained on the owners (model.base), or a model folder."
        )
    return kind, context.base
