"""What the scripts under stages/ share: their arguments and the fingerprint of a training."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch

from charreg.core.arguments import arguments
from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet, digest_of_faces
from charreg.core.models import Model
from charreg.core.params import Params
from charreg.core.runtime import runtime
from charreg.core.scratch import code_digest
from charreg.training.checkpoint import Scratch
from charreg.training.export import Assignment, run_jobs
from charreg.training.job import Job


def launched() -> None:
    """Start this script again by the launcher the environment names (`torchrun ...`), unless it was started by it."""
    launcher = shlex.split(runtime().launch)
    if launcher != ["python"] and "TORCHELASTIC_RUN_ID" not in os.environ:
        try:
            os.execvp(launcher[0], [*launcher, *sys.argv])
        except (OSError, IndexError):
            raise CharregError(
                f"CHARREG_LAUNCH: found {runtime().launch!r}, wanted python or a torchrun command"
            ) from None


def training_arguments(
    description: str | None,
    argv: Sequence[str] | None,
    *paths: str,
    words: Sequence[str] = (),
    choices: Mapping[str, Sequence[str]] | None = None,
) -> argparse.Namespace:
    """The arguments of a training's script, which starts again as many processes where it is asked to.

    Every one has `--faces`, the training faces (hr/ and lr/), and `--models` and `--curves`: it writes a folder of its
    own into both, and finds the models of earlier trainings in the first.
    """
    launched()
    return arguments(description, argv, "faces", *paths, "models", "curves", words=words, choices=choices)


def with_seed(params: Params, seed: int) -> Params:
    """The parameters of a training, its seed in the place of the list of seeds."""
    values = {key: value for key, value in dict(params).items() if key not in ("seeds", "peer_seeds")}
    return Params.model_construct(**{**values, "seed": seed})


def train_every_seed(
    stage: str,
    make: Callable[[Params], tuple[Job, dict[str, Any]]],
    params: Params,
    args: argparse.Namespace,
    seeds: Sequence[int] = (),
) -> None:
    """Train what `make` builds (a job and its notes) once for every seed, and write the outputs of the stage.

    seeds: those of the parameters where none are given.
    """

    def assignments() -> Iterator[Assignment]:
        for seed in seeds or params.seeds:
            job, notes = make(with_seed(params, seed))
            yield Assignment(job, training_scratch(stage, notes), notes)

    run_jobs(assignments(), args.models, args.curves)


def training_notes(params: Params, leave_out: Collection[str] = (), **inputs: FaceSet | Model) -> dict[str, Any]:
    """What a training depends on, for model.json: its parameters, but for those `leave_out` names, and the digests
    of what it read.
    """
    digests = {
        name: digest_of_faces(value) if isinstance(value, FaceSet) else value.digest for name, value in inputs.items()
    }
    used = params.model_dump(mode="json", warnings=False, exclude=set(leave_out))
    return {"params": used, "data": digests}


def training_scratch(stage: str, notes: Mapping[str, Any]) -> Scratch:
    """The resume states of a training with these notes, this code and this torch."""
    return Scratch(stage, {**notes, "code": code_digest(), "torch": torch.__version__})
