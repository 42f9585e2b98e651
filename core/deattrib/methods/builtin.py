"""The methods that come with the library, brought by the hook that anybody else's come by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deattrib.attribution.hookspecs import hookimpl
from deattrib.methods.anchored import Anchored
from deattrib.methods.dpo_idk import IdkDPO
from deattrib.methods.flat import FLAT
from deattrib.methods.gradient_ascent import GradientAscent, GradientAscentKL, GradientDifference
from deattrib.methods.groups import GroupRelative, LeaveOneOut
from deattrib.methods.name_swap import NameSwap
from deattrib.methods.npo import NPO
from deattrib.methods.retain_ft import RetainFineTuning
from deattrib.methods.rmu import RMU
from deattrib.methods.scrub import SCRUB
from deattrib.methods.simnpo import SimNPO
from deattrib.ppo.unlearner import Unlearner

METHODS: tuple[type[Unlearner], ...] = (
    Unlearner, GradientAscent, GradientDifference, GradientAscentKL, NPO, SimNPO, RMU, SCRUB, FLAT, RetainFineTuning,
    NameSwap, IdkDPO, Anchored, LeaveOneOut, GroupRelative,
)  # fmt: skip


@hookimpl
def methods() -> Sequence[type[Any]]:
    return METHODS
