"""The audit: scorers next to exact attribution by retraining. Nothing here is part of a run, and nothing is optimised."""
