"""HL, LRGAN's high-to-low generator (Bulat, Yang, Tzimiropoulos, ECCV 2018); its LH is `SuperResolver` with ReLU."""

from typing import Literal

import torch
from torch import Tensor, nn

from charreg.networks.blocks import Norm, ResidualBlock, Upsampler, norm_layer, zero_initialise
from charreg.resampling import HR_SIZE, ds_area

NOISE = 64  # entries of z


class HighToLow(nn.Module):
    """Faces [B, 3, 64, 64] in [-1, 1] and noise z [B, 64] to [B, 3, 16, 16] in [-1, 1]: 64 -> 4 -> 16.

    z passes a linear layer to one further input channel. Twelve residual blocks, two at each of six resolutions.
    output: `tanh` as published, or `residual`, 4x4 means of the face plus a zero-initialised last layer (beyond the
    paper: starts at the pixel target, which pays in short runs). 1,603,331 parameters at width 64.
    """

    def __init__(self, width: int = 64, norm: Norm = "bn", output: Literal["tanh", "residual"] = "tanh") -> None:
        super().__init__()
        self.output = output
        self.noise = nn.Linear(NOISE, HR_SIZE * HR_SIZE)
        self.head = nn.Sequential(nn.Conv2d(4, width, 3, padding=1), nn.ReLU())
        self.down = nn.Sequential(*(_halving(width, norm) for _ in range(4)))
        self.up = nn.Sequential(*(_doubling(width, norm) for _ in range(2)))
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        if output == "residual":
            zero_initialise(self.tail)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        channel = self.noise(z).view(-1, 1, HR_SIZE, HR_SIZE)
        y = self.tail(self.up(self.down(self.head(torch.cat([x, channel], dim=1)))))
        return ds_area(x) + y if self.output == "residual" else torch.tanh(y)


def _two_blocks(width: int, norm: Norm) -> list[nn.Module]:
    return [ResidualBlock(width, norm, "relu") for _ in range(2)]


def _halving(width: int, norm: Norm) -> nn.Sequential:
    down = nn.Conv2d(width, width, 3, stride=2, padding=1)
    return nn.Sequential(*_two_blocks(width, norm), norm_layer(norm, width), nn.ReLU(), down)


def _doubling(width: int, norm: Norm) -> nn.Sequential:
    return nn.Sequential(*_two_blocks(width, norm), Upsampler(width, "relu"))
