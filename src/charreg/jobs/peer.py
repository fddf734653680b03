"""What the jobs of the compared systems share: what they may read, and the usual signals and sheet."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from charreg.errors import CharregError
from charreg.faces import FaceSet
from charreg.jobs.data import Pairs
from charreg.jobs.signals import SHEET_FACES, in_batches, psnr, rows_of_faces
from charreg.networks.centreface import CentreFace
from charreg.params import Params, Peer, scaled_iterations
from charreg.resampling import up
from charreg.training import Job


@dataclass(frozen=True)
class Inputs:
    """Everything a peer may learn from; which of it a system sees is its method's business."""

    hr: FaceSet  # artificial pairs, with identities and landmarks where known
    genuine: FaceSet  # unpaired genuine LR faces
    recogniser: CentreFace  # trained on hr


class PeerJob(Job):
    """A compared system: `super_resolver`, [B, 3, 16, 16] to [B, 3, 64, 64] in [-1, 1], is what it exports.

    A job file `charreg/jobs/train_<name>.py` holds one subclass with `name = "<name>"`; its options stand under
    `peers.<name>` in params.yaml. `iterations` counts steps of the generator.
    """

    averaged: tuple[str, ...] = ("super_resolver",)
    exports: tuple[str, ...] = ("super_resolver",)

    def __init__(self, params: Params, inputs: Inputs, device: torch.device) -> None:
        options: Peer = params.peers[self.name]
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


def job_of(peer: str) -> type[PeerJob]:
    """The one PeerJob of charreg/jobs/train_<peer>.py."""
    name = f"charreg.jobs.train_{peer}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise CharregError(
            f"peers.{peer}: no file src/charreg/jobs/train_{peer}.py, wanted the job of this peer"
        ) from None
    jobs = [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, PeerJob) and found.__module__ == name
    ]
    if len(jobs) != 1 or jobs[0].name != peer:
        found = ", ".join(job.__name__ for job in jobs) or "none"
        raise CharregError(f"{module.__file__}: found jobs {found}, wanted one PeerJob with name = {peer!r}")
    return jobs[0]
