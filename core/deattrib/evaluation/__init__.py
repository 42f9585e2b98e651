"""What is measured: metrics that are pure functions, and the evaluation that puts them into one table row."""
