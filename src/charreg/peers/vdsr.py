"""VDSR on artificial pairs: 0.5 * squared error of the residual (Kim et al., CVPR 2016).

VDSR (Kim et al., CVPR 2016): a deep residual of the bicubic enlargement.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from charreg.core.models import Blueprint
from charreg.core.params import Betas, Count, Number, Params, PeerOptions, Positive, Share, Weight
from charreg.core.resampling import up
from charreg.networks.blocks import zero_initialise
from charreg.peers.base import PeerInputs, PeerJob
from charreg.training import distributed
from charreg.training.job import Losses
from charreg.training.objectives import mse

LUMA = (0.299, 0.587, 0.114)  # BT.601


def luma(x: Tensor) -> Tensor:
    """[B, 3, S, S] RGB in [-1, 1] to its luminance [B, 1, S, S] in [-1, 1]."""
    return (x * x.new_tensor(LUMA).view(3, 1, 1)).sum(dim=1, keepdim=True)


class Vdsr(nn.Module):
    """[B, 3, 16, 16] to [B, 3, 64, 64], RGB in [-1, 1]: UP(A) + residual(UP(A)).

    depth conv3x3, ReLU after all but the last, which starts at zero (beyond the paper: starts at bicubic).
    colour: `rgb`, or `y`, the paper's: the residual is one of luminance, and Cb and Cr stay bicubic.
    668,227 parameters by default, 665,921 with `y`.
    """

    def __init__(self, width: int = 64, depth: int = 20, colour: Literal["rgb", "y"] = "rgb") -> None:
        super().__init__()
        self.colour = colour
        channels = 3 if colour == "rgb" else 1
        layers: list[nn.Module] = []
        for before in (channels, *[width] * (depth - 2)):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        last = self.body[-1]
        assert isinstance(last, nn.Conv2d)
        zero_initialise(last)

    def forward(self, A: Tensor) -> Tensor:
        return self.refine(up(A))

    def refine(self, B: Tensor) -> Tensor:
        """[B, 3, S, S], an enlarged face, to the same shape.

        With `y` all three channels move by the residual, which moves luminance by it and leaves Cb and Cr alone.
        """
        residual: Tensor = self.body(B if self.colour == "rgb" else luma(B))
        return B + residual


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
