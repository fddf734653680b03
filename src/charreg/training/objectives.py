"""The objectives that CR and the systems it is compared with have in common."""

import torch.nn.functional as F
from torch import Tensor


def mse(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference, a scalar."""
    return F.mse_loss(a, b)


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """What every discriminator minimises: E[sp(-D(real))] + E[sp(D(fake))], of logits [B]."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """What every generator minimises of its discriminator: E[sp(-D(fake))], of logits [B]."""
    return F.softplus(-fake).mean()
