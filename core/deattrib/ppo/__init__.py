"""The PPO engine: rollout, reward, advantages, losses, and the loop that joins them."""
