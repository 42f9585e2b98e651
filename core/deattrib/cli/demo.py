"""`deattrib demo`: the main job on the built-in fictitious authors."""

from __future__ import annotations

from deattrib.cli.run import MethodName, Output, Reward, Seed, Set, Threads, carry_out


def demo(
    set_: Set = None,
    reward: Reward = None,
    method: MethodName = None,
    seed: Seed = None,
    output: Output = None,
    threads: Threads = None,
) -> None:
    """Make a small model that knows 20 fictitious authors, forget 2 of them, compare with a model that never met them."""
    from deattrib.runs.config import demo_settings

    settings = demo_settings()
    carry_out(
        None, data=settings, set_=set_, reward=reward, method=method, seed=seed, output=output, resume=None, threads=threads
    )
