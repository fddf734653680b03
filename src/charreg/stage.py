"""What the scripts under stages/ share: their arguments and the fingerprint of a training."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from charreg.checkpoint import Scratch, code_digest
from charreg.faces import FaceSet, digest_of_faces
from charreg.models import Model
from charreg.params import Params

TRAINING_OUTPUTS = ("out", "curves", "timings")


def arguments(
    description: str | None,
    argv: Sequence[str] | None,
    *paths: str,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> argparse.Namespace:
    """Parse `--<path>` arguments, all required, `--params` (params.yaml) and named choices."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    for path in paths:
        parser.add_argument(f"--{path}", type=Path, required=True)
    for name, values in (choices or {}).items():
        parser.add_argument(f"--{name}", choices=values, required=True)
    return parser.parse_args(argv)


def training_notes(params: Params, **inputs: FaceSet | Model) -> dict[str, Any]:
    """What a training depends on, for model.json: its parameters and the digests of what it read."""
    digests = {
        name: digest_of_faces(value) if isinstance(value, FaceSet) else value.digest for name, value in inputs.items()
    }
    return {"params": params.model_dump(mode="json", warnings=False), "data": digests}


def training_scratch(stage: str, notes: Mapping[str, Any]) -> Scratch:
    """The resume states of a training with these notes, this code and this torch."""
    return Scratch(stage, {**notes, "code": code_digest(), "torch": torch.__version__})
