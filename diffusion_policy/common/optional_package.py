"""Packages that only some data formats need."""

import importlib
from types import ModuleType


def optional_package(name: str) -> ModuleType:
    """Import a module of the extra `data`.

    Raises:
        ImportError: its package is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"this data format needs the package {name.partition('.')[0]} ({error}): "
            'pip install "diffusion_policy[data]"'
        ) from error
