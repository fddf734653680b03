"""Health signals and sample sheets that several jobs share."""

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.tensors import to_images

SHEET_FACES = 12
CELL = 64  # px


def psnr(a: Tensor, b: Tensor) -> float:
    """PSNR in dB of images in [-1, 1] from the mean squared difference of the whole batch; nan when equal."""
    error = F.mse_loss(a.clamp(-1, 1), b.clamp(-1, 1)).item()
    return 10 * math.log10(4 / error) if error else math.nan


def verdicts(real: Tensor, fake: Tensor, name: str) -> dict[str, float]:
    """Mean logits and accuracy of a discriminator."""
    right = (real > 0).float().mean() + (fake < 0).float().mean()
    return {
        f"{name}_real": real.mean().item(),
        f"{name}_fake": fake.mean().item(),
        f"{name}_accuracy": right.item() / 2,
    }


def in_batches(network: nn.Module, x: Tensor, size: int = 64) -> Tensor:
    """A network over many images, a few at a time."""
    return torch.cat([network(part) for part in x.split(size)])


def rows_of_faces(*rows: Tensor) -> npt.NDArray[np.uint8]:
    """A picture with one row per batch of faces [n, 3, S, S]; small faces are enlarged by whole pixels."""
    pictures, columns = [], min(len(row) for row in rows)
    for row in rows:
        images = to_images(row[:columns])
        images = images.repeat(CELL // images.shape[1], axis=1).repeat(CELL // images.shape[2], axis=2)
        pictures.append(np.concatenate(list(images), axis=1))
    return np.concatenate(pictures, axis=0)
