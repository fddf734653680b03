"""VDSR (Kim et al., CVPR 2016) on artificial pairs: half the squared error of the residual."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from charreg.core.models import Blueprint
from charreg.core.params import Betas, Count, Number, Params, PeerOptions, Positive, Share, Weight
from charreg.networks.deep_residual import Vdsr, luma
from charreg.peers.base import PeerInputs, PeerJob
from charreg.training import distributed
from charreg.training.job import Losses
from charreg.training.objectives import mse


class VdsrOptions(PeerOptions, Betas):
    width: Count
    depth: Annotated[int, Number, Field(ge=3)]
    colour: Literal["rgb", "y"]
    optim: Literal["adam", "sgd_clip"]  # sgd_clip: the original's; lr is then its 0.1
    momentum: Share  # this and the next two: of sgd_clip
    weight_decay: Weight
    clip_theta: Positive  # gradients are cut to [-theta/lr, theta/lr]


class TrainVdsr(PeerJob):
    """Adam on the mean squared error, or `sgd_clip`, the original recipe.

    That is SGD at lr 0.1 on the SUM of the squared error over the global batch, every gradient value cut to
    +-clip_theta/lr, the rate a tenth after each quarter. On the mean error such a rate hardly trains.
    """

    name = "vdsr"
    options: VdsrOptions

    def __init__(self, params: Params, inputs: PeerInputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = self.options
        arguments = {"width": options.width, "depth": options.depth, "colour": options.colour}
        self.network = self.add_network("super_resolver", Blueprint.of(Vdsr, arguments))
        if options.optim == "adam":
            self.add_adam("vdsr", [self.network], options.lr, options.betas)
            return
        self.optimisers["vdsr"] = torch.optim.SGD(
            self.network.parameters(), lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
        self.rates["vdsr"] = options.lr

    def rate(self, step: int) -> float:
        if self.options.optim == "adam":
            return super().rate(step)
        return 0.1 ** (4 * step // self.iterations)  # every 20 of 80 epochs

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        S = self.network(A)
        error = mse(S, H) if self.options.colour == "rgb" else mse(luma(S), luma(H))
        if self.options.optim == "adam":
            self.descend("vdsr", error / 2)
        else:
            values = self.options.batch * (H if self.options.colour == "rgb" else luma(H))[0].numel()
            self.descend_cut(error / 2 * values)
        return {"l_sr": error}

    def descend_cut(self, loss: Tensor) -> None:
        """`descend` with the original's clipping of values, which takes the place of clip_norm."""
        optimiser = self.optimisers["vdsr"]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        distributed.average_gradients(self.network.parameters())
        nn.utils.clip_grad_value_(self.network.parameters(), self.options.clip_theta / optimiser.param_groups[0]["lr"])
        optimiser.step()
