"""Profiles: named sets of overrides of params.yaml, and their form on the command line of `dvc exp run`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from charreg.errors import CharregError

PLAIN = re.compile(r"[A-Za-z0-9_./:+-]*")  # survives plain word splitting and DVC's override grammar


def read_profile(path: Path) -> dict[str, Any]:
    """The overrides of a profile file, nested as in params.yaml; CharregError names the file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml"))) or "none"
        raise CharregError(f"{path}: no such profile, found {known}") from None
    except yaml.YAMLError as error:
        raise CharregError(f"{path}: not plain YAML ({error})") from None
    if not isinstance(content, dict):
        raise CharregError(f"{path}: found {type(content).__name__}, wanted a mapping of parameters")
    return content


def apply_profile(params: Mapping[str, Any], profile: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`params` with the overrides of a profile; CharregError names a key that params does not have.

    A section that is empty in params takes whatever the profile says.
    """
    applied = dict(params)
    for key, value in profile.items():
        name = f"{prefix}{key}"
        if key not in params:
            if params:
                raise CharregError(f"{name}: unknown key, found {', '.join(map(str, params))} in params.yaml")
            applied[key] = value
            continue
        if isinstance(params[key], Mapping) != isinstance(value, Mapping):
            wanted = "a mapping" if isinstance(params[key], Mapping) else "a plain value"
            raise CharregError(f"{name}: found {value!r}, wanted {wanted} as in params.yaml")
        inner = isinstance(value, Mapping)
        applied[key] = apply_profile(params[key], value, f"{name}.") if inner else value
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
