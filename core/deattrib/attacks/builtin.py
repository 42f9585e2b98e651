"""The attacks that come with the library, brought by the hook that anybody else's come by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deattrib.attacks.base import Attack
from deattrib.attacks.paraphrase import Paraphrase
from deattrib.attacks.prefix import Prefix
from deattrib.attacks.quantisation import Quantisation
from deattrib.attacks.relearning import BenignRelearning, Relearning
from deattrib.attacks.sampling import Sampling
from deattrib.attribution.hookspecs import hookimpl

ATTACKS: tuple[type[Attack], ...] = (Relearning, BenignRelearning, Sampling, Paraphrase, Prefix, Quantisation)


@hookimpl
def attacks() -> Sequence[type[Any]]:
    return ATTACKS
