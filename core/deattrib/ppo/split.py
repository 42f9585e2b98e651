"""Whether a run can be split over several processes, asked before anything is computed."""

from __future__ import annotations

from deattrib.errors import ConfigError
from deattrib.models.ranks import World
from deattrib.ppo.settings import PPOSettings


def check_split(settings: PPOSettings, world: World, *, method: str, splits: bool) -> None:
    """Refuses what several processes cannot do together.

    Args:
        settings: as the method uses them.
        method, splits: its name, and whether it says of itself that its loss can be split.

    Raises:
        ConfigError: a batch has fewer rows than there are processes (which of them would have none), or the method's loss is
            not written for parts of a batch.
    """
    if world.size == 1:
        return
    if not splits:
        raise ConfigError(
            f"Method {method!r} runs in one process only: its loss does not say how it is split over {world.size}. Start it "
            "without a launcher, or see `splits` in docs/methods.md where the method is yours."
        )
    rollouts = settings.policy_weight > 0
    minibatch = min(settings.minibatch_size, settings.batch_size)
    anchored = settings.anchor.hinge > 0 or settings.anchor.kl > 0
    sizes = {
        "ppo.batch_size": settings.batch_size,
        "ppo.minibatch_size": minibatch if rollouts else None,
        "the last of ppo.batch_size in parts of ppo.minibatch_size": settings.batch_size % minibatch or None if rollouts else None,
        "ppo.retain.batch_size": settings.retain.batch_size if settings.retain.weight > 0 else None,
        "ppo.anchor.batch_size": settings.anchor.batch_size if anchored else None,
    }
    for name, size in sizes.items():
        if size is not None and size < world.size:
            raise ConfigError(
                f"{name}: {size} rows cannot be split over {world.size} processes, each needs one at least. Make the batch "
                "larger or start fewer processes."
            )
