"""phi_cr and phi_inv, the characteristic regulariser and its inverse: one layout, separate weights."""

from typing import Literal

import torch
from torch import Tensor, nn

from charreg.networks.blocks import Norm, ResidualBlock, zero_initialise


class Regulariser(nn.Module):
    """[B, 3, 16, 16] to [B, 3, 16, 16], both in [-1, 1] (CR, section 3: three residual blocks).

    output: `residual` starts as the identity (zero-initialised last layer, global skip), which ties a face to its
    input where the loss has no content term (eq. 5); `tanh` is a plain generator.
    225,863 parameters at width 64.
    """

    def __init__(
        self,
        width: int = 64,
        blocks: int = 3,
        norm: Norm = "bn",
        output: Literal["residual", "tanh"] = "residual",
    ) -> None:
        super().__init__()
        self.output = output
        self.head = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.PReLU())
        self.blocks = nn.Sequential(*(ResidualBlock(width, norm) for _ in range(blocks)))
        self.tail = nn.Conv2d(width, 3, 3, padding=1)
        if output == "residual":
            zero_initialise(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tail(self.blocks(self.head(x)))
        return x + y if self.output == "residual" else torch.tanh(y)
