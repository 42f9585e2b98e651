"""What `deattrib doctor` looks at: versions, optional parts, devices, the cache of models, plugins.

Every part looks for itself and never raises: a broken installation is what this is for. What is wrong goes into `problems`,
each with what to do next; a missing optional part is told, and is no problem. Nothing is written.
"""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from deattrib.attribution.extras import extras_of, installed
from deattrib.attribution.plugins import PluginRegistry
from deattrib.errors import DeattribError

DISTRIBUTION = "deattrib"
FOR_DEVELOPERS = ("all", "dev", "docs")  # extras that give a user nothing new
VARIABLES = (
    "DEATTRIB_CACHE", "DEATTRIB_PLUGINS", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


def examine() -> dict[str, Any]:
    """Everything but the self-test.

    Returns:
        plain values: schema, python, platform, versions, extras, devices, threads, variables, cache, plugins, problems.
    """
    problems: list[str] = []
    report = {
        "schema": 1,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": versions(problems),
        "extras": extras(problems),
        **devices(problems),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "cache": cache(problems),
        "plugins": plugins(problems),
    }
    return {**report, "problems": problems}


def versions(problems: list[str]) -> dict[str, str | None]:
    """deattrib and what it requires, without importing it; None for what is not installed."""
    found: dict[str, str | None] = {DISTRIBUTION: _version(DISTRIBUTION)}
    if found[DISTRIBUTION] is None:
        problems.append("deattrib itself is not installed, so no plugin is found. Install it with: pip install .")
        return found
    for text in metadata.requires(DISTRIBUTION) or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        found[needed.name] = version = _version(needed.name)
        if version is None:
            problems.append(f'{needed.name} is not installed. Install it with: pip install "{needed}"')
        elif not needed.specifier.contains(version, prereleases=True):
            problems.append(f'{needed.name} is {version}, needed is {needed.specifier}. Mend with: pip install "{needed}"')
    return found


def extras(problems: list[str]) -> dict[str, list[str]]:
    """Optional part -> distributions that it lacks; empty where it is complete."""
    if _version("trak") is not None:
        problems.append("The distribution 'trak' is no TRAK but hides it. Mend with: pip uninstall trak; pip install traker")
    return {
        name: [f"{item.name}{item.specifier}" for item in needed if not installed(item)]
        for name, needed in sorted(extras_of(DISTRIBUTION).items())
        if name not in FOR_DEVELOPERS
    }


def devices(problems: list[str]) -> dict[str, Any]:
    """Accelerators that torch sees, the one that `model.device: auto` takes, and processors and threads."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads: dict[str, Any] = {"processors": os.cpu_count(), "allowed": allowed, "torch": None}
    try:
        import torch

        from deattrib.models.loading import pick_device

        threads["torch"] = torch.get_num_threads()
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        found = [f"cuda:{i} {card.name}, {card.total_memory / 2**30:.1f} GiB" for i, card in enumerate(cards)]
        found += ["mps"] if torch.backends.mps.is_available() else []
        return {"devices": found, "device": str(pick_device("auto")), "threads": threads}
    except Exception as error:  # a torch that cannot be imported fails in many ways
        problems.append(f"torch cannot be used: {_said(error)}")
        return {"devices": [], "device": None, "threads": threads}


def cache(problems: list[str]) -> dict[str, Any]:
    """The folder of made models and everything else that is kept between runs."""
    from deattrib.runs.prepare import cache_folder

    folder = cache_folder()
    sizes = [size for path in folder.rglob("*") if (size := _size(path)) is not None] if folder.is_dir() else []
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        problems.append(f"The cache folder {folder} cannot be written. Set DEATTRIB_CACHE to a folder that can.")
    return {
        "folder": str(folder),
        "files": len(sizes),
        "bytes": sum(sizes),
        "free_bytes": shutil.disk_usage(nearest).free,
    }


def plugins(problems: list[str]) -> dict[str, Any]:
    """How many classes of each kind are ready, and what does not load, with its reason."""
    try:
        listing = PluginRegistry().listing()
    except DeattribError as error:  # two plugins of one name
        problems.append(str(error))
        return {"ready": {}, "failed": []}
    ready: dict[str, int] = {}
    for entry in listing:
        if entry["state"] == "ready":
            ready[entry["kind"]] = ready.get(entry["kind"], 0) + 1
    failed = [entry for entry in listing if entry["state"] == "failed"]
    for entry in failed:
        if "pip install" not in entry["reason"]:  # else an optional part is missing, which is no fault
            source = f"{entry['distribution']} {entry['version']}".strip()
            problems.append(f"Plugin {entry['name']!r} ({source}) does not load: {entry['reason']}")
    keys = ("name", "kind", "distribution", "version", "reason")
    return {"ready": ready, "failed": [{key: entry[key] for key in keys} for entry in failed]}


def _size(path: Path) -> int | None:
    """In bytes; None for what is no file, or no longer there: a run that goes on changes the cache."""
    try:
        return path.stat().st_size if path.is_file() and not path.is_symlink() else None
    except OSError:
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
