"""What the jobs of the compared systems share: what they may read, and the usual signals and sheet."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_type_hints

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import nn

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet
from charreg.core.params import Params, PeerOptions, PeerSection, fault_words, scaled_iterations
from charreg.core.resampling import up
from charreg.networks.centreface import CentreFace
from charreg.training.batches import Pairs
from charreg.training.job import Job
from charreg.training.signals import SHEET_FACES, in_batches, psnr, rows_of_faces

UNKNOWN = -1  # the label of a face that no identity loss sees
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PeerInputs:
    """Everything a peer may learn from; which of it a system sees is its method's business."""

    hr: FaceSet  # artificial pairs, with identities and landmarks where known
    genuine: FaceSet  # unpaired genuine LR faces
    recogniser: CentreFace  # trained on hr


class PeerJob(Job):
    """A compared system: `super_resolver`, [B, 3, 16, 16] to [B, 3, 64, 64] in [-1, 1], is what it exports.

    A file `charreg/peers/<name>.py` holds one subclass with `name = "<name>"`. The class it annotates `options` with is
    the schema of `peers.<name>` in params.yaml. `iterations` counts steps of the generator.
    """

    averaged: tuple[str, ...] = ("super_resolver",)
    exports: tuple[str, ...] = ("super_resolver",)
    options: PeerOptions

    def __init__(self, params: Params, inputs: PeerInputs, device: torch.device) -> None:
        self.options = options = check_options(type(self), params.peers[self.name])
        super().__init__(params.seed, options, scaled_iterations(options, params.epoch_scale), device)
        self.pairs = Pairs(inputs.hr, options.batch, params.seed, device)

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        A, H = self.pairs.sample(128)
        S = in_batches(networks["super_resolver"], A)
        return {"psnr_train": psnr(S, H), "psnr_bicubic": psnr(up(A), H)}

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: artificial LR, bicubic, super-resolved, HR."""
        A, H = self.pairs.sample(SHEET_FACES)
        return rows_of_faces(A, up(A), networks["super_resolver"](A), H)


def number_identities(names: Sequence[str]) -> tuple[Labels, int]:
    """Labels 0..C-1 in the order of the sorted names, UNKNOWN for empty ones; and C."""
    people = {name: label for label, name in enumerate(sorted({name for name in names if name}))}
    return np.array([people.get(name, UNKNOWN) for name in names], dtype=np.int64), len(people)


def check_options(job: type[PeerJob], section: PeerSection) -> PeerOptions:
    """A section of `peers` in the schema of its job. Raises CharregError naming the first keys it refuses."""
    schema: type[PeerOptions] = get_type_hints(job)["options"]
    try:
        return schema.model_validate(section.model_dump())
    except ValidationError as error:
        raise CharregError(
            "; ".join(fault_words(fault, f"peers.{job.name}.") for fault in error.errors()[:3])
        ) from None


def job_of(peer: str) -> type[PeerJob]:
    """The one PeerJob of charreg/peers/<peer>.py."""
    name = f"charreg.peers.{peer}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise CharregError(f"peers.{peer}: no file src/charreg/peers/{peer}.py, wanted the job of this peer") from None
    jobs = [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, PeerJob) and found.__module__ == name
    ]
    if len(jobs) != 1 or jobs[0].name != peer:
        found = ", ".join(job.__name__ for job in jobs) or "none"
        raise CharregError(f"{module.__file__}: found jobs {found}, wanted one PeerJob with name = {peer!r}")
    return jobs[0]
