"""SRGAN's generator (alone: SRResNet) and discriminator (Ledig et al., CVPR 2017, figure 4)."""

from typing import Literal

import torch
from torch import Tensor, nn

from charreg.networks.blocks import BatchNorm, Norm, ResidualBlock, Upsampler, norm_layer, zero_initialise
from charreg.resampling import up


class Generator(nn.Module):
    """[B, 3, 16, 16] to [B, 3, 64, 64], both in [-1, 1]: all residual blocks at 16x16, then two doublings.

    output: `tanh` as published, or `residual`, UP(A) plus a zero-initialised last layer (beyond the paper: starts at
    bicubic, which pays in short runs). 1,549,462 parameters by default.
    """

    def __init__(
        self, width: int = 64, blocks: int = 16, norm: Norm = "bn", output: Literal["tanh", "residual"] = "tanh"
    ) -> None:
        super().__init__()
        self.output = output
        self.head = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(ResidualBlock(width, norm) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
            norm_layer(norm, width),
        )
        last = nn.Conv2d(width, 3, 9, padding=4)
        if output == "residual":
            zero_initialise(last)
        self.tail = nn.Sequential(Upsampler(width), Upsampler(width), last)

    def forward(self, A: Tensor) -> Tensor:
        x = self.head(A)
        y = self.tail(x + self.body(x))
        return up(A) + y if self.output == "residual" else torch.tanh(y)


class Discriminator(nn.Module):
    """[B, 3, 64, 64] to logits [B]: eight conv3x3, every second of stride 2, and two linear layers.

    pooling: `flatten` hands all 4x4 places to the linear layers as published, `global` their mean.
    13,079,745 parameters by default, 5,215,425 with `global`.
    """

    def __init__(self, width: int = 64, pooling: Literal["flatten", "global"] = "flatten") -> None:
        super().__init__()
        self.pooling = pooling
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2)]
        before = width
        for number, factor in enumerate((1, 2, 2, 4, 4, 8, 8)):
            stride = 1 if number % 2 else 2
            layers += [nn.Conv2d(before, factor * width, 3, stride, padding=1), BatchNorm(factor * width)]
            layers += [nn.LeakyReLU(0.2)]
            before = factor * width
        self.features = nn.Sequential(*layers)
        places = 4 * 4 if pooling == "flatten" else 1
        self.linear = nn.Sequential(nn.Linear(places * before, 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, 1))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x)
        if self.pooling == "global":
            maps = maps.mean(dim=(2, 3))
        return self.linear(maps.flatten(1)).squeeze(1)  # type: ignore[no-any-return]
