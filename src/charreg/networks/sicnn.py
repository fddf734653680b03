"""SICNN (Zhang et al., ECCV 2018) for 16 -> 64: CNN_H hallucinates, CNN_R recognises, A-Softmax trains CNN_R."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.networks.blocks import zero_initialise
from charreg.resampling import up

SLOPE = 0.25  # where a learned PReLU starts; outside the dense blocks it stays there
BLOCKS = {20: (1, 2, 4, 1), 36: (2, 4, 8, 2)}  # residual pairs after each stride of CNN_R, by its layers


def scaled(width: float, channels: int) -> int:
    return max(1, round(width * channels))


def _conv(before: int, after: int, learned: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.PReLU(init=SLOPE) if learned else nn.LeakyReLU(SLOPE)
    )


def _double(channels: int, kernel: int) -> nn.Sequential:
    """[B, C, S, S] to [B, C, 2S, 2S]."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels, kernel, stride=2, padding=kernel // 2, output_padding=1),
        nn.LeakyReLU(SLOPE),
    )


class DenseBlock(nn.Module):
    """A first convolution, then `layers` ones that each see all before them and add `growth` channels."""

    def __init__(self, before: int, first: int, growth: int, layers: int, learned: bool = True) -> None:
        super().__init__()
        self.first = _conv(before, first, learned)
        self.layers = nn.ModuleList(_conv(first + i * growth, growth, learned) for i in range(layers))
        self.channels = first + layers * growth

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class CnnH(nn.Module):
    """CNN_H: [B, 3, 16, 16] to [B, 3, 64, 64], both in [-1, 1]; two doublings for x4 where the original has three.

    width is a factor on every channel count. output: `tanh` as published, or `residual`, UP(x) plus a
    zero-initialised last layer (beyond the paper). 3,079,377 parameters at width 1: the 14 convolutions of the two
    dense blocks learn one slope each, the other PReLUs keep theirs.
    """

    def __init__(self, width: float = 1.0, output: Literal["tanh", "residual"] = "tanh") -> None:
        super().__init__()
        self.output = output
        first, growth = scaled(width, 64), scaled(width, 32)
        self.dense1 = DenseBlock(3, first, growth, layers=6)
        channels = self.dense1.channels
        self.double1 = _double(channels, kernel=3)
        self.dense2 = DenseBlock(channels, first, growth, layers=6)
        self.double2 = _double(channels, kernel=5)
        self.dense3 = DenseBlock(channels, first, growth, layers=2, learned=False)
        self.tail = nn.Conv2d(self.dense3.channels, 3, 5, padding=2)
        if output == "residual":
            zero_initialise(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        y = self.double1(self.dense1(x))
        y = self.double2(self.dense2(y))
        y = self.tail(self.dense3(y))
        return up(x) + y if self.output == "residual" else torch.tanh(y)


class ResidualPair(nn.Module):
    """conv3x3 - PReLU - conv3x3 - PReLU plus identity, no batch norm; slopes are per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, padding=1),
            nn.PReLU(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class CnnR(nn.Module):
    """CNN_R: [B, 3, 64, 64] in [-1, 1] to embeddings [B, embedding], SphereFace's network (Liu et al., CVPR 2017).

    width is a factor on every channel count. 25,963,072 parameters with 36 layers, 15,854,912 with 20.
    """

    def __init__(self, width: float = 1.0, layers: Literal[20, 36] = 36, embedding: int = 512) -> None:
        super().__init__()
        before, stages = 3, []
        for channels, pairs in zip((64, 128, 256, 512), BLOCKS[layers], strict=True):
            after = scaled(width, channels)
            stages += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.PReLU(after)]
            stages += [ResidualPair(after) for _ in range(pairs)]
            before = after
        self.features = nn.Sequential(*stages)
        self.linear = nn.Linear(4 * 4 * before, embedding)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).flatten(1))  # type: ignore[no-any-return]


class AngularClassifier(nn.Module):
    """The classifier of A-Softmax with m = 4 (Liu et al., CVPR 2017, eq. 7), in training only; it has no bias."""

    def __init__(self, embedding: int, classes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(F.normalize(torch.rand(classes, embedding) * 2 - 1, dim=1))

    def cosines(self, features: Tensor) -> Tensor:
        """cos(theta_j) of features [B, E] to every class: [B, C]."""
        return F.normalize(features, dim=1) @ F.normalize(self.directions, dim=1).T

    def forward(self, features: Tensor, labels: Tensor, annealing: float) -> Tensor:
        """Logits [B, C]: |f| cos(theta_j), and |f| (lambda cos(theta) + psi(theta)) / (1 + lambda) for the own class.

        features [B, E]; labels [B] in 0..C-1; annealing is lambda, and the larger it is, the weaker the margin.
        """
        cosines = self.cosines(features).clamp(-1, 1)
        own = cosines.gather(1, labels[:, None])
        softened = (annealing * own + psi(own)) / (1 + annealing)
        logits: Tensor = features.norm(dim=1, keepdim=True) * cosines.scatter(1, labels[:, None], softened)
        return logits


def psi(cosine: Tensor) -> Tensor:
    """(-1)^k cos(4 theta) - 2k with theta in [k pi/4, (k+1) pi/4]: falls from 1 to -7 as theta goes from 0 to pi."""
    k = (4 * cosine.detach().acos() / math.pi).floor().clamp(max=3)
    cos_4_theta = 8 * cosine**4 - 8 * cosine**2 + 1
    return (1 - 2 * (k % 2)) * cos_4_theta - 2 * k
