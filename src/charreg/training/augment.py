"""Random changes of what networks are shown, beyond the paper: jitter, noise, shifts."""

import torch
from torch import Tensor

from charreg.core.seeding import torch_seed
from charreg.training.distributed import rank, world_size

BRIGHTNESS, CONTRAST, SHIFT = 0.15, 0.15, 2  # half ranges; [-1, 1] levels, factor, px


class Augment:
    """Jitters the images a discriminator sees, real and generated alike, each image on its own.

    Draws are functions of (seed, step, use) for the global batch, of which a process takes its share.
    """

    def __init__(self, jitters: bool, seed: int, name: str) -> None:
        self.jitters, self.seed, self.name = jitters, seed, name

    def __call__(self, x: Tensor, step: int, use: str) -> Tensor:
        """[b, 3, S, S] to the same shape; differentiable."""
        return jitter(x, self._generator(step, use, "jitter")) if self.jitters else x

    def hide_pseudo_details(self, P: Tensor, step: int, noise: float) -> Tensor:
        """P with noise of that deviation, so that phi_cr cannot read what phi_inv hides in faint patterns."""
        draws = torch.randn((len(P) * world_size(), *P.shape[1:]), generator=self._generator(step, "P", "hide"))
        return P + noise * share(draws, len(P)).to(P.device)

    def _generator(self, *words: object) -> torch.Generator:
        return torch.Generator().manual_seed(torch_seed(self.seed, self.name, *words))


def share(draws: Tensor, count: int) -> Tensor:
    return draws[rank() * count : (rank() + 1) * count]


def jitter(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random brightness, contrast and shift (edges replicated) of every image of [b, 3, S, S]."""
    count = len(x)
    draws = share(torch.rand(count * world_size(), 4, generator=generator), count).to(x.device) * 2 - 1
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    contrast, brightness = (1 + CONTRAST * draws[:, 0]), BRIGHTNESS * draws[:, 1]
    x = (x - mean) * contrast[:, None, None, None] + mean + brightness[:, None, None, None]
    return shift(x, draws[:, 2:], SHIFT)


def shift(x: Tensor, draws: Tensor, most: float) -> Tensor:
    """Move every image of [b, 3, S, S] by whole pixels, up to `most`, edges replicated; draws [b, 2] in [-1, 1]."""
    size, items = x.shape[-1], torch.arange(len(x), device=x.device)[:, None, None]
    shifts = (draws * (most + 0.5)).round().clamp(-most, most).long()
    positions = torch.arange(size, device=x.device)
    rows = (positions + shifts[:, :1]).clamp(0, size - 1)
    columns = (positions + shifts[:, 1:]).clamp(0, size - 1)
    return x.permute(0, 2, 3, 1)[items, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
