"""Fine-tuning on retain rows only, trusting that the rest fades: `retain-ft`.

The fine-tuning baseline of Golatkar et al. (CVPR 2020) and of Lu et al. 2026 (arXiv 2605.30919), Table 1 ("Fine-tune on
D_R").
"""

from __future__ import annotations

from torch import Tensor

from deattrib.methods.base import Method


class RetainFineTuning(Method):
    """Cross-entropy on retain answers; forget rows are never seen."""

    name = "retain-ft"
    splits = True

    class Params(Method.Params):
        """`ppo.retain.batch_size` retain rows an update are all there is; `batch_size` says how long a pass is."""

        idle = ("retain", "retain_weight")

    def total_loss(self) -> tuple[Tensor, dict[str, float]]:
        loss = self.retain_loss()
        return loss, {"retain_loss": float(loss.detach())}
