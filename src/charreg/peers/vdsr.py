"""VDSR (Kim et al., CVPR 2016) on artificial pairs: half the squared error of the residual."""

from typing import Annotated

import torch
from pydantic import Field

from charreg.core.models import Blueprint
from charreg.core.params import Count, Number, Params, PeerOptions
from charreg.networks.deep_residual import Vdsr
from charreg.peers.base import PeerInputs, PeerJob
from charreg.training.job import Losses
from charreg.training.objectives import mse


class VdsrOptions(PeerOptions):
    width: Count
    depth: Annotated[int, Number, Field(ge=3)]


class TrainVdsr(PeerJob):
    """Adam on half the mean squared error, in the place of SGD at 0.1 on the sum, with values of gradients cut."""

    name = "vdsr"
    options: VdsrOptions

    def __init__(self, params: Params, inputs: PeerInputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        layout = {"width": self.options.width, "depth": self.options.depth}
        self.network = self.add_network("super_resolver", Blueprint.of(Vdsr, layout))
        self.add_adam("vdsr", [self.network], self.options.lr)

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        error = mse(self.network(A), H)
        self.descend("vdsr", error / 2)
        return {"l_sr": error}
