"""Versions of installed packages, without importing them."""

from importlib import metadata


def version(package: str) -> str | None:
    """Of a distribution, as pip knows it; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
