"""Building blocks shared by the networks."""

from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.utils.parametrizations import spectral_norm as spectrally_normalised

Norm = Literal["bn", "none"]
Activation = Literal["prelu", "relu"]


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics are those of the global batch, however many processes share it.

    torch's SyncBatchNorm refuses CPU tensors; this is the same arithmetic through a differentiable all-reduce.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        count = x.numel() / x.shape[1] * dist.get_world_size()
        mean = all_reduce(x.sum(dim=(0, 2, 3))) / count
        variance = all_reduce((x - mean[:, None, None]).square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.momentum is not None
            assert self.num_batches_tracked is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked.add_(1)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = (x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return normalised


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    return BatchNorm(channels) if kind == "bn" else nn.Identity()


def activation_layer(kind: Activation) -> nn.Module:
    return nn.PReLU() if kind == "prelu" else nn.ReLU()


class ResidualBlock(nn.Module):
    """RB: conv3x3 - norm - PReLU - conv3x3 - norm, plus identity."""

    def __init__(self, width: int, norm: Norm = "bn", activation: Activation = "prelu") -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            norm_layer(norm, width),
            activation_layer(activation),
            nn.Conv2d(width, width, 3, padding=1),
            norm_layer(norm, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class ResidualGroup(nn.Module):
    """A row of residual blocks with a skip around the whole row."""

    def __init__(self, width: int, blocks: int, norm: Norm = "bn", activation: Activation = "prelu") -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(width, norm, activation) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks(x)  # type: ignore[no-any-return]


class Upsampler(nn.Sequential):
    """x2: conv3x3 to four times the channels, pixel shuffle, PReLU."""

    def __init__(self, width: int, activation: Activation = "prelu") -> None:
        super().__init__(nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), activation_layer(activation))


class DiscriminatorBlock(nn.Module):
    """DB: ReLU - conv3x3 - ReLU - conv3x3 plus skip, then 2x2 average pooling where asked; no batch norm."""

    def __init__(self, before: int, after: int, pool: bool, first: bool = False) -> None:
        super().__init__()
        self.first, self.pool = first, pool
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.first else F.relu(x)
        y = self.conv2(F.relu(self.conv1(y))) + self.skip(x)
        return F.avg_pool2d(y, 2) if self.pool else y


def add_spectral_norm(network: nn.Module) -> None:
    """Spectral norm, one power iteration a forward pass, on every conv and linear layer of a network."""
    for module in list(network.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            spectrally_normalised(module)


def zero_initialise(layer: nn.Conv2d) -> None:
    """Make a layer return zeros until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def freeze(network: nn.Module) -> nn.Module:
    """Evaluation mode, parameters without gradient; gradients still FLOW THROUGH to the input (eq. 8)."""
    return network.eval().requires_grad_(False)
