"""Which code makes a result: a digest of the sources that fill histograms, and the versions of what they stand on."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

# What a filled histogram depends on; the fits are made anew from it every time.
FILLING = ("processors", "models")
PACKAGES = (
    "jetbalance",
    "coffea",
    "awkward",
    "uproot",
    "numpy",
    "numba",
    "scipy",
    "hist",
    "boost-histogram",
    "uhi",
    "iminuit",
    "correctionlib",
    "onnxruntime",
    "matplotlib",
    "mplhep",
    "pydantic",
)


@cache
def code_digest(packages: tuple[str, ...] = FILLING) -> str:
    """SHA-256 over the Python sources of `packages`, which lie beside this one."""
    root = Path(__file__).resolve().parent.parent
    total = hashlib.sha256()
    for source in sorted(path for package in packages for path in (root / package).rglob("*.py")):
        total.update(source.relative_to(root).as_posix().encode())
        total.update(hashlib.sha256(source.read_bytes()).digest())
    return total.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, by name; one that is not installed is left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
