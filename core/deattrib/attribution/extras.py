"""Which optional dependency is missing, and the `pip install` that brings it.

The name to install comes from the distribution's own metadata and is never guessed from the import name: on PyPI
`trak` is not TRAK.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

# import name -> distribution name, where the two differ
DISTRIBUTIONS = {"trak": "traker", "sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow", "cv2": "opencv-python"}


def install_hint(module: str, distribution: str) -> str:
    """The end of a message about a module that `distribution` tried to import and did not find; "" if unknown."""
    extra = extra_of(module, distribution)
    return f'Install it with: pip install "{distribution}[{extra}]"' if extra else ""


def extra_of(module: str, distribution: str) -> str | None:
    """The smallest extra of a distribution that brings a module; None if there is none."""
    top = module.split(".")[0]
    wanted = {canonicalize_name(top), canonicalize_name(DISTRIBUTIONS.get(top, top))}
    extras = extras_of(distribution)
    found = [name for name, needs in extras.items() if wanted & {canonicalize_name(item.name) for item in needs}]
    return min(found, key=lambda name: (len(extras[name]), name), default=None)


def missing_extra(needs: Sequence[str]) -> str | None:
    """Why a scorer that `needs` something cannot run here; None if it can.

    Only entries of the form "distribution[extra]" can be checked; other words are for people.
    """
    for need in needs:
        try:
            wanted = Requirement(need)
        except InvalidRequirement:
            continue
        extras = extras_of(wanted.name) if wanted.extras else {}
        for extra in sorted(wanted.extras):
            absent = [str(item.name) for item in extras.get(canonicalize_name(extra), []) if not installed(item)]
            if absent:
                return f'{", ".join(absent)} is not installed. Install it with: pip install "{wanted.name}[{extra}]"'
    return None


def installed(item: Requirement) -> bool:
    """Whether a distribution is there in a wanted version."""
    try:
        return item.specifier.contains(metadata.version(item.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def extras_of(distribution: str) -> dict[str, list[Requirement]]:
    """Extra -> what it adds to the plain installation."""
    try:
        found = metadata.distribution(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        return {}
    names = [canonicalize_name(name) for name in found.metadata.get_all("Provides-Extra") or ()]
    return {name: [item for item in _requirements(found) if _only_with(item, name)] for name in names}


def _requirements(found: metadata.Distribution) -> Iterator[Requirement]:
    for line in found.requires or ():
        try:
            yield Requirement(line)
        except InvalidRequirement:
            continue


def _only_with(item: Requirement, extra: str) -> bool:
    marker = item.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
