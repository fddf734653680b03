"""The arguments of the scripts under stages/."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path


def arguments(
    description: str | None,
    argv: Sequence[str] | None,
    *paths: str,
    words: Sequence[str] = (),
    choices: Mapping[str, Sequence[str]] | None = None,
) -> argparse.Namespace:
    """Parse `--<path>` and `--<word>`, named choices, all required, and `--params` (default: params.yaml)."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    for path in paths:
        parser.add_argument(f"--{path}", type=Path, required=True)
    for word in words:
        parser.add_argument(f"--{word}", required=True)
    for name, values in (choices or {}).items():
        parser.add_argument(f"--{name}", choices=values, required=True)
    return parser.parse_args(argv)
