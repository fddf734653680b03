"""VDSR (Kim et al., CVPR 2016): a deep residual of the bicubic enlargement; alone, and in CSRI."""

from torch import Tensor, nn

from charreg.core.resampling import up
from charreg.networks.blocks import zero_initialise


class Vdsr(nn.Module):
    """[B, 3, 16, 16] to [B, 3, 64, 64], RGB in [-1, 1]: UP(A) + residual(UP(A)); the paper's is of luminance alone.

    depth conv3x3, ReLU after all but the last, which starts at zero (beyond the paper: starts at bicubic).
    668,227 parameters by default.
    """

    def __init__(self, width: int = 64, depth: int = 20) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before in (3, *[width] * (depth - 2)):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
        last = nn.Conv2d(width, 3, 3, padding=1)
        self.body = nn.Sequential(*layers, last)
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        zero_initialise(last)

    def forward(self, A: Tensor) -> Tensor:
        B = up(A)
        return B + self.body(B)  # type: ignore[no-any-return]
