"""D, D_inv, D_sr (images) and Df (recognition features); all return logits [B]."""

import math
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from charreg.networks.blocks import DiscriminatorBlock, add_spectral_norm

# Blocks after which the map is halved on its way to 4x4. `late` is the published layout; `early` spends
# a fraction of its time, since full-resolution blocks dominate the step of the characteristic GAN.
POOLED = {
    ("late", 16): (5, 6),
    ("late", 64): (3, 4, 5, 6),
    ("early", 16): (2, 4),
    ("early", 64): (1, 2, 3, 4),
}


class Discriminator(nn.Module):
    """[B, 3, size, size] to logits [B]: six residual blocks and one linear layer (CR, section 3).

    409,281 parameters at width 64 for either size (16 or 64).
    """

    def __init__(
        self,
        size: int = 16,
        width: int = 64,
        pooling: Literal["late", "early"] = "late",
        spectral_norm: bool = True,
    ) -> None:
        super().__init__()
        pooled = POOLED[pooling, size]
        self.blocks = nn.Sequential(
            DiscriminatorBlock(3, width, pool=1 in pooled, first=True),
            *(DiscriminatorBlock(width, width, pool=number in pooled) for number in range(2, 7)),
        )
        self.linear = nn.Linear(4 * 4 * width, 1)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.blocks(x)).flatten(1)).squeeze(1)  # type: ignore[no-any-return]


class FeatureDiscriminator(nn.Module):
    """Df: recognition features [B, embedding] to logits [B], five linear layers (CR, section 3).

    input: `l2` scales every feature vector to length sqrt(embedding) first: raw centre-loss features are unbounded
    and saturate Df quickly. 238,337 parameters at the default widths.
    """

    def __init__(
        self,
        embedding: int = 512,
        widths: Sequence[int] = (256, 256, 128, 64),
        spectral_norm: bool = True,
        input: Literal["l2", "raw"] = "l2",
    ) -> None:
        super().__init__()
        self.input = input
        layers: list[nn.Module] = []
        for before, after in zip((embedding, *widths[:-1]), widths, strict=True):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, features: Tensor) -> Tensor:
        if self.input == "l2":
            features = F.normalize(features, dim=1) * math.sqrt(features.shape[1])
        return self.layers(features).squeeze(1)  # type: ignore[no-any-return]
