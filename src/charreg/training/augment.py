"""What discriminators are shown, beyond the paper: jitter, noise; and the R1 penalty (Mescheder et al., ICML 2018)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import grad

from charreg.core.params import AdversarialOptions
from charreg.core.seeding import torch_seed
from charreg.training.distributed import rank, world_size

BRIGHTNESS, CONTRAST, SHIFT = 0.15, 0.15, 2  # half ranges; [-1, 1] levels, factor, px


class Augment:
    """Jitters and noises the images a discriminator sees, real and generated alike, each image on its own.

    Draws are functions of (seed, step, use) for the global batch, of which a process takes its share.
    """

    def __init__(self, options: AdversarialOptions, seed: int, name: str) -> None:
        self.options, self.seed, self.name = options, seed, name

    def __call__(self, x: Tensor, step: int, use: str) -> Tensor:
        """[b, 3, S, S] to the same shape; differentiable."""
        if self.options.d_jitter:
            x = jitter(x, self._generator(step, use, "jitter"))
        if self.options.d_noise:
            noise = torch.randn((len(x) * world_size(), *x.shape[1:]), generator=self._generator(step, use, "noise"))
            x = x + self.options.d_noise * share(noise, len(x)).to(x.device)
        return x

    def hide_pseudo_details(self, P: Tensor, step: int) -> Tensor:
        """P with noise, so that phi_cr cannot read what a deterministic phi_inv hides in faint patterns."""
        if not self.options.pseudo_noise:
            return P
        noise = torch.randn((len(P) * world_size(), *P.shape[1:]), generator=self._generator(step, "P", "hide"))
        return P + self.options.pseudo_noise * share(noise, len(P)).to(P.device)

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


def r1_penalty(logits: Tensor, images: Tensor, gamma: float) -> Tensor:
    """gamma/2 * mean squared norm of the discriminator's gradient at real images (Mescheder et al. 2018)."""
    (gradient,) = grad(logits.sum(), images, create_graph=True)
    return gamma / 2 * gradient.square().flatten(1).sum(dim=1).mean()


def lazy_r1(judge: Callable[[Tensor], Tensor], real: Tensor, options: AdversarialOptions, step: int) -> Tensor:
    """The R1 penalty every `r1_every` steps, weighted as often; zero otherwise."""
    if not options.r1_gamma or step % options.r1_every:
        return real.new_zeros(())
    images = real.detach().requires_grad_(True)
    return r1_penalty(judge(images), images, options.r1_gamma) * options.r1_every
