"""FSRNet (Chen et al., CVPR 2018), adapted from 128x128 and x8 to 64x64 and x4: face priors guide the fine image."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from charreg.networks.blocks import BatchNorm, zero_initialise
from charreg.resampling import up


class ResidualBlock(nn.Module):
    """RB: conv3x3 - BN - ReLU - conv3x3 - BN, plus identity; BN makes biases needless."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            BatchNorm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            BatchNorm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """Three times BN - ReLU - conv (1x1, 3x3, 1x1; half the channels inside), plus identity or a 1x1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        half = after // 2
        self.body = nn.Sequential(
            *(BatchNorm(before), nn.ReLU(), nn.Conv2d(before, half, 1)),
            *(BatchNorm(half), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1)),
            *(BatchNorm(half), nn.ReLU(), nn.Conv2d(half, after, 1)),
        )
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)  # type: ignore[no-any-return]


class Hourglass(nn.Module):
    """[B, C, S, S] to the same shape: max-pool, bottlenecks, nearest enlargement, and a bottleneck on the skip.

    Recursive: between the bottlenecks of the pooled map sits an hourglass of depth - 1, at depth 1 one bottleneck.
    S is a multiple of 2^depth.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.skip = Bottleneck(channels, channels)
        self.inside = nn.Sequential(
            nn.MaxPool2d(2),
            Bottleneck(channels, channels),
            Hourglass(channels, depth - 1) if depth > 1 else Bottleneck(channels, channels),
            Bottleneck(channels, channels),
            nn.Upsample(scale_factor=2, mode="nearest"),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.inside(x)  # type: ignore[no-any-return]


class Stages(NamedTuple):
    """What FSRNet makes of a face on its way."""

    coarse: Tensor  # y_c [B, 3, 64, 64]
    fine: Tensor  # y [B, 3, 64, 64]
    prior: Tensor  # estimated prior maps [B, K, 32, 32]


class FSRNet(nn.Module):
    """[B, 3, 16, 16] to [B, 3, 64, 64], both in [-1, 1]: coarse image, then encoder beside prior network, then decoder.

    The decoder takes the prior FEATURES (2 * width channels at 32x32), not the K maps: those are for training only.
    output: `linear` as published, or `residual`: UP(x) plus zero-initialised last layers of both images (beyond the
    paper: starts at bicubic). 2,809,163 parameters by default.
    """

    def __init__(
        self,
        width: int = 64,
        coarse_blocks: int = 3,
        encoder_blocks: int = 12,
        decoder_blocks: int = 3,
        hourglasses: int = 2,
        depth: int = 3,
        maps: int = 5,
        output: Literal["linear", "residual"] = "linear",
    ) -> None:
        super().__init__()
        self.output = output
        self.coarse = nn.Sequential(
            *(nn.Conv2d(3, width, 3, padding=1), BatchNorm(width), nn.ReLU()),
            *(ResidualBlock(width) for _ in range(coarse_blocks)),
            nn.Conv2d(width, 3, 3, padding=1),
        )
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, width, 3, stride=2, padding=1), BatchNorm(width), nn.ReLU()),
            *(ResidualBlock(width) for _ in range(encoder_blocks)),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.prior = nn.Sequential(
            *(nn.Conv2d(3, width, 7, stride=2, padding=3), BatchNorm(width), nn.ReLU()),
            Bottleneck(width, 2 * width),
            *(Bottleneck(2 * width, 2 * width) for _ in range(2)),
            *(Hourglass(2 * width, depth) for _ in range(hourglasses)),
        )
        self.maps = nn.Conv2d(2 * width, maps, 1)
        self.decoder = nn.Sequential(
            *(nn.Conv2d(3 * width, width, 3, padding=1), BatchNorm(width), nn.ReLU()),
            *(nn.ConvTranspose2d(width, width, 4, stride=2, padding=1), BatchNorm(width), nn.ReLU()),
            *(ResidualBlock(width) for _ in range(decoder_blocks)),
            nn.Conv2d(width, 3, 3, padding=1),
        )
        if output == "residual":
            for layer in (self.coarse[-1], self.decoder[-1]):
                assert isinstance(layer, nn.Conv2d)
                zero_initialise(layer)

    def forward(self, x: Tensor) -> Tensor:
        """The fine image y alone: what is measured."""
        _, y, _ = self._images(x)
        return y

    def stages(self, x: Tensor) -> Stages:
        """Everything the losses need."""
        y_c, y, p = self._images(x)
        return Stages(y_c, y, self.maps(p))

    def _images(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """y_c and y [B, 3, 64, 64], and the prior features p [B, 2 * width, 32, 32]."""
        bicubic = up(x)
        start = bicubic if self.output == "residual" else 0
        y_c: Tensor = self.coarse(bicubic) + start
        p: Tensor = self.prior(y_c)
        y: Tensor = self.decoder(torch.cat([self.encoder(y_c), p], dim=1)) + start
        return y_c, y, p
