"""Building the wheel and installing things where a process of its own finds them, as users have them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "core", "plugins")


def execute(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own that knows nothing of the source tree."""
    outside = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DEATTRIB_PLUGINS")}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env={**outside, **env}, capture_output=True, text=True, timeout=240)


def run(*arguments: str, cwd: Path, **env: str) -> str:
    """What it printed; it must succeed."""
    done = execute(*arguments, cwd=cwd, **env)
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """The wheel of this source tree, built from a copy so that nothing is left in the tree."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(source), cwd=folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


def install(*what: Path, into: Path) -> None:
    """Install wheels or source folders into a folder, without their dependencies and without a network."""
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--no-compile", "--quiet", "--disable-pip-version-check"]
    run("-m", "pip", "install", *options, "--target", str(into), *(str(path) for path in what), cwd=into)
