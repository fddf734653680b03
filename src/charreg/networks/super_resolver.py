"""phi_sr, the super-resolution network 16 -> 64."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from charreg.core.resampling import up
from charreg.networks.blocks import Activation, Norm, ResidualGroup, Upsampler, activation_layer, zero_initialise


class SuperResolver(nn.Module):
    """[B, 3, 16, 16] to [B, 3, 64, 64], both in [-1, 1]: SRGAN's generator in three groups (CR, section 3).

    The doubling sits BETWEEN the groups, so there are two upsamplers and the factor is four.
    output: `tanh` as in SRGAN, or `residual`, UP(x) plus a zero-initialised last layer (beyond the paper: starts
    at bicubic, which pays in short runs). 1,586,519 parameters at width 64.
    activation: `relu`, without learned slopes, is the low-to-high generator of LRGAN (20 parameters fewer).
    """

    def __init__(
        self,
        width: int = 64,
        blocks: Sequence[int] = (12, 3, 2),
        norm: Norm = "bn",
        output: Literal["tanh", "residual"] = "tanh",
        activation: Activation = "prelu",
    ) -> None:
        super().__init__()
        self.output = output
        self.head = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), activation_layer(activation))
        self.group1 = ResidualGroup(width, blocks[0], norm, activation)
        self.up1 = Upsampler(width, activation)
        self.group2 = ResidualGroup(width, blocks[1], norm, activation)
        self.up2 = Upsampler(width, activation)
        self.group3 = ResidualGroup(width, blocks[2], norm, activation)
        self.tail = nn.Conv2d(width, 3, 9, padding=4)
        if output == "residual":
            zero_initialise(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up1(self.group1(self.head(x)))
        y = self.up2(self.group2(y))
        y = self.tail(self.group3(y))
        return up(x) + y if self.output == "residual" else torch.tanh(y)
