"""Which software produced a result."""

from __future__ import annotations

import importlib.metadata
import platform

VERSIONED_PACKAGES = ("tfmi", "tensorflow", "tf-keras", "tensorflow-recommenders", "scann", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result; packages that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in VERSIONED_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
