"""CycleGAN's networks (Zhu et al., ICCV 2017, section 4 and appendix) at 64x64, and what its discriminators remember.

Instance norm has no parameters of its own and treats every image alone: any batches may share one pass.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from charreg.resampling import HR_SIZE, up


class TranslatorBlock(nn.Module):
    """conv3x3 - IN - ReLU - conv3x3 - IN, plus identity; edges reflected."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class Translator(nn.Sequential):
    """The generator, [B, 3, 64, 64] to the same shape, both in [-1, 1]; its blocks work at 16x16.

    7,837,699 parameters with 6 blocks, 11,378,179 with 9 (width 64).
    """

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 7, padding=3, padding_mode="reflect"),
            nn.InstanceNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        for before, after in ((width, 2 * width), (2 * width, 4 * width)):
            layers += [
                nn.Conv2d(before, after, 3, stride=2, padding=1),
                nn.InstanceNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        layers += [TranslatorBlock(4 * width) for _ in range(blocks)]
        for before, after in ((4 * width, 2 * width), (2 * width, width)):
            doubling = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)
            layers += [doubling, nn.InstanceNorm2d(after), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(width, 3, 7, padding=3, padding_mode="reflect"), nn.Tanh()]
        super().__init__(*layers)
        draw_weights(self)


class TranslatingSuperResolver(nn.Module):
    """F_xy(UP(x)): [B, 3, 16, 16] to [B, 3, 64, 64], both in [-1, 1]; as many parameters as a translator."""

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        self.translator = Translator(width, blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.translator(up(x))  # type: ignore[no-any-return]


class PatchDiscriminator(nn.Sequential):
    """[B, 3, 64, 64] to scores of overlapping patches, [B, 1, 6, 6] with 3 layers, [B, 1, 14, 14] with 2.

    2,764,737 parameters with n_layers 3 (patches of 70 px), 662,977 with 2 (34 px), at width 64. LSGAN: 1 says real,
    0 generated.
    """

    def __init__(self, width: int = 64, n_layers: int = 3) -> None:
        widths = [width * 2**number for number in range(n_layers + 1)]
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for before, after in pairwise(widths):
            stride = 1 if after == widths[-1] else 2
            layers += [
                nn.Conv2d(before, after, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(after),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        draw_weights(self)


def draw_weights(network: nn.Module) -> None:
    """N(0, 0.02) for the weights of every convolution, 0 for its bias."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


class ImageHistory(nn.Module):
    """The last images of a translator, in random part, which its discriminator is shown beside the newest ones.

    As in Shrivastava et al. (CVPR 2017), but in buffers, so that it is saved and resumed with the networks.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int = 50) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros(size, 3, HR_SIZE, HR_SIZE))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def exchange(self, new: Tensor, generator: torch.Generator) -> Tensor:
        """What the discriminator sees in place of `new` [B, 3, 64, 64], the global batch; changes the history.

        While there is room, images are kept and shown; then each is shown itself, or, p = 0.5, takes the place of
        a kept one, which is shown instead.
        """
        size, filled = len(self.images), int(self.filled)
        if not size:
            return new
        swaps = (torch.rand(len(new), generator=generator) < 0.5).tolist()
        places = torch.randint(size, (len(new),), generator=generator).tolist()
        shown = new.clone()
        for image, swap, place in zip(shown, swaps, places, strict=True):
            if filled < size:
                self.images[filled] = image
                filled += 1
            elif swap:
                kept = self.images[place].clone()
                self.images[place] = image
                image.copy_(kept)
        self.filled.fill_(filled)
        return shown
