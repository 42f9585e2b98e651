"""Runs: the config, the folder with everything a run leaves behind, and the pipeline that fills it."""
