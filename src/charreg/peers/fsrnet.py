"""FSRNet (Chen et al., CVPR 2018), from 128x128 and x8 to 64x64 and x4: landmarks guide the fine image.

L = mse(y_c, H) + fine_weight * mse(y, H) + prior_weight * l_prior, by RMSprop, on artificial pairs. Landmarks come from
the index of the HR set and are used in training only.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from charreg.core.faces import LANDMARK_COLUMNS, LANDMARKS, FaceSet
from charreg.core.models import Blueprint
from charreg.core.params import Count, Number, Params, PeerOptions, Weight
from charreg.core.resampling import up
from charreg.networks.blocks import BatchNorm, zero_initialise
from charreg.peers.base import PeerInputs, PeerJob
from charreg.training.batches import my_share
from charreg.training.job import Losses
from charreg.training.objectives import mse
from charreg.training.signals import SHEET_FACES, psnr, rows_of_faces


class FsrResidualBlock(nn.Module):
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
            *(FsrResidualBlock(width) for _ in range(coarse_blocks)),
            nn.Conv2d(width, 3, 3, padding=1),
        )
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, width, 3, stride=2, padding=1), BatchNorm(width), nn.ReLU()),
            *(FsrResidualBlock(width) for _ in range(encoder_blocks)),
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
            *(FsrResidualBlock(width) for _ in range(decoder_blocks)),
            nn.Conv2d(width, 3, 3, padding=1),
        )
        if output == "residual":
            for layer in (self.coarse[-1], self.decoder[-1]):
                assert isinstance(layer, nn.Conv2d)
                zero_initialise(layer)

    def forward(self, x: Tensor) -> Tensor:
        """The fine image y alone: what is measured."""
        return self.stages(x).fine

    def stages(self, x: Tensor) -> Stages:
        """Everything the losses need."""
        bicubic = up(x)
        start = bicubic if self.output == "residual" else 0
        y_c: Tensor = self.coarse(bicubic) + start
        p: Tensor = self.prior(y_c)  # [B, 2 * width, 32, 32]
        y: Tensor = self.decoder(torch.cat([self.encoder(y_c), p], dim=1)) + start
        return Stages(y_c, y, self.maps(p))


MAP_SIZE = 32  # px
SIGMA = 1.0  # px of the landmark heat maps
MIRRORED = [1, 0, 2, 4, 3]  # a mirrored face shows its right eye where LANDMARKS has the left one; likewise the mouth


def heat_maps(points: Tensor, size: int, sigma: float) -> Tensor:
    """Gaussians of peak 1 about points [B, K, 2] (x, y; px, the first pixel's centre is 0.5): [B, K, size, size].

    The map of a point that is not a number is zero.
    """
    centres = torch.arange(size, device=points.device) + 0.5
    x, y = torch.exp(-(points[..., None] - centres).square() / (2 * sigma**2)).nan_to_num(0.0).unbind(dim=2)
    return y[..., :, None] * x[..., None, :]


def l_prior(prior: Tensor, maps: Tensor, known: Tensor) -> Tensor:
    """mse(prior, maps) of [B, K, 32, 32]; maps that are not known ([B, K], 1 or 0) contribute nothing."""
    return mse(prior * known[..., None, None], maps * known[..., None, None])


class Landmarks:
    """The true prior maps of an HR set, from the landmarks in its index."""

    def __init__(self, faces: FaceSet, device: torch.device) -> None:
        points = faces.index[list(LANDMARK_COLUMNS)].to_numpy(np.float32).reshape(-1, len(LANDMARKS), 2)
        self.points: npt.NDArray[np.float32] = points * (MAP_SIZE / faces.images.shape[1])
        self.device = device

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which landmarks of which faces, [N, K]."""
        return np.asarray(np.isfinite(self.points).all(axis=2))

    def maps(self, indices: npt.NDArray[np.int64], flips: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Heat maps [b, K, 32, 32] of chosen faces, mirrored where `flips` says so, and which are known, [b, K]."""
        points = torch.from_numpy(self.points[indices])
        mirrored = points[:, MIRRORED] * torch.tensor([-1.0, 1.0]) + torch.tensor([float(MAP_SIZE), 0.0])
        points = torch.where(torch.from_numpy(flips)[:, None, None], mirrored, points).to(self.device)
        return heat_maps(points, MAP_SIZE, SIGMA), points.isfinite().all(dim=2).float()


class FsrnetOptions(PeerOptions):
    width: Count
    encoder_blocks: Count
    coarse_blocks: Count
    decoder_blocks: Count
    hourglasses: Count
    depth: Annotated[int, Number, Field(ge=1, le=5)]  # of an hourglass: halvings of the 32x32 maps
    output: Literal["residual", "linear"]
    fine_weight: Weight
    prior_weight: Weight


class TrainFsrnet(PeerJob):
    """FSRNet; without landmarks, or with prior_weight 0, nothing guides the prior network but the images."""

    name = "fsrnet"
    options: FsrnetOptions

    def __init__(self, params: Params, inputs: PeerInputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = self.options
        self.landmarks = Landmarks(inputs.hr, device)
        layout = {"width", "coarse_blocks", "encoder_blocks", "decoder_blocks", "hourglasses", "depth", "output"}
        arguments = {**options.model_dump(mode="json", include=layout), "maps": len(LANDMARKS)}
        network = self.add_network("super_resolver", Blueprint.of(FSRNet, arguments))
        assert isinstance(network, FSRNet)
        self.network = network
        self.optimisers["fsrnet"] = torch.optim.RMSprop(network.parameters(), lr=options.lr)
        self.rates["fsrnet"] = options.lr
        if not (options.prior_weight and self.landmarks.known.any()):
            self.label = "FSRNet (no prior)"

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        stream = self.pairs.stream
        maps, known = self.landmarks.maps(my_share(stream.indices(step)), my_share(stream.flips(step)))
        y_c, y, prior = self.network.stages(A)
        coarse, fine, guidance = mse(y_c, H), mse(y, H), l_prior(prior, maps, known)
        self.descend("fsrnet", coarse + self.options.fine_weight * fine + self.options.prior_weight * guidance)
        return {"l_coarse": coarse, "l_fine": fine, "l_prior": guidance}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        A, H = self.pairs.sample(128)
        y_c = torch.cat([_stages(networks, part).coarse for part in A.split(64)])
        return {**super().health(networks), "psnr_coarse": psnr(y_c, H)}

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: artificial LR, bicubic, coarse, estimated landmarks (brightest of the K maps), fine, HR."""
        A, H = self.pairs.sample(SHEET_FACES)
        y_c, y, prior = _stages(networks, A)
        return rows_of_faces(A, up(A), y_c, prior.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1) * 2 - 1, y, H)


def _stages(networks: Mapping[str, nn.Module], A: Tensor) -> Stages:
    network = networks["super_resolver"]
    assert isinstance(network, FSRNet)
    return network.stages(A)
