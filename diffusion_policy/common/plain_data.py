"""Plain data from JSON and YAML files: of a damaged one the error says which file it is. No code is run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml


def read_json(path: Path) -> dict[str, Any]:
    """The names and values in a JSON file.

    Raises:
        ValueError: it is not JSON, or holds something else.
    """
    return _read(path, json.loads)


def read_yaml(path: Path) -> dict[str, Any]:
    """The names and values in a YAML file; tags that would build objects are refused.

    Raises:
        ValueError: it is not YAML, or holds something else.
    """
    return _read(path, yaml.safe_load)


def _read(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        content = parse(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged ({reason}); write or fetch it again") from error
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} is damaged: it must hold names and values, not {type(content).__name__}; write or fetch it again"
        )
    return content
