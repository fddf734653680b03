"""Profiles: named sets of overrides of params.yaml, and their form on the command line of `dvc exp run`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charreg.core.errors import CharregError
from charreg.core.params import parse_yaml

PLAIN = re.compile(r"[A-Za-z0-9_./:+-]*")  # survives plain word splitting and DVC's override grammar


def read_profile(path: Path) -> dict[str, Any]:
    """The overrides of a profile file, nested as in params.yaml; CharregError names the file."""
    try:
        content = parse_yaml(path)
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise CharregError(f"{path}: no such profile, found {known}") from None
    if not isinstance(content, dict):
        raise CharregError(f"{path}: found {type(content).__name__}, wanted a mapping of parameters")
    return content


def apply_profile(params: Mapping[str, Any], profile: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`params` with the overrides of a profile; `check_params` of the result names a key there is not.

    Raises CharregError where one has a mapping and the other a plain value.
    """
    applied = dict(params)
    for key, value in profile.items():
        inner = params.get(key, {} if isinstance(value, Mapping) else None)
        if isinstance(inner, Mapping) != isinstance(value, Mapping):
            wanted = "a mapping" if isinstance(inner, Mapping) else "a plain value"
            raise CharregError(f"{prefix}{key}: found {value!r}, wanted {wanted} as in params.yaml")
        applied[key] = apply_profile(inner, value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
    return applied


def override_flags(profile: Mapping[str, Any], params: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`-S`, `key=value`, ... for `dvc exp run`; no word holds a space, so a shell may split them plainly.

    A key that `params` (all of params.yaml) does not have is marked with ++, DVC's sign for a new one.
    """
    words = []
    for key, value in profile.items():
        inner = params.get(key)
        if isinstance(value, Mapping):
            words += override_flags(value, inner if isinstance(inner, Mapping) else {}, f"{prefix}{key}.")
        else:
            new = "" if key in params else "++"
            words += ["-S", f"{new}{prefix}{key}={_word(value, prefix + str(key))}"]
    return words


def _word(value: Any, key: str) -> str:
    if isinstance(value, list):
        return "[" + ",".join(_word(part, key) for part in value) + "]"
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    if not PLAIN.fullmatch(text):
        raise CharregError(f"{key}: found {value!r}, wanted letters, digits and _./:+- only in a profile")
    return text
