"""Unlearning methods beside the PPO engine: what others do, in the same loop, on the same rows, with the same checkpoints."""
