"""VDSR (Kim et al., CVPR 2016): a deep residual of the bicubic enlargement; alone, and in CSRI."""

from typing import Literal

from torch import Tensor, nn

from charreg.core.resampling import up
from charreg.networks.blocks import zero_initialise

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
