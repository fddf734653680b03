"""CycleGAN (Zhu et al., ICCV 2017) between enlarged genuine faces X = UP(G) and HR faces Y = H, never paired.

F_xy and F_yx translate, D_x and D_y judge with least squares; the super-resolver is F_xy(UP(.)). Instance norm has no
parameters and treats every image alone, so that any batches may share one pass.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.faces import HR_SIZE
from charreg.core.models import Blueprint
from charreg.core.params import Count, Params, PeerOptions, Weight, Whole
from charreg.core.resampling import up
from charreg.core.seeding import torch_seed
from charreg.peers.base import PeerInputs, PeerJob
from charreg.training.augment import share
from charreg.training.batches import Genuine
from charreg.training.distributed import gather
from charreg.training.job import GAN_BETAS, Losses, without_gradients
from charreg.training.signals import SHEET_FACES, in_batches, rows_of_faces


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
    """[B, 3, 64, 64] to scores of overlapping patches of 70 px, [B, 1, 6, 6]. LSGAN: 1 says real, 0 generated.

    2,764,737 parameters at width 64.
    """

    def __init__(self, width: int = 64) -> None:
        widths = [width * factor for factor in (1, 2, 4, 8)]
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


DECAY_FROM = 0.5  # share of the run after which the rate falls to 0 on a line (section 7.1: 100 of 200 epochs)


class CycleganOptions(PeerOptions):
    width: Count
    blocks: Count
    d_width: Count
    cycle_weight: Weight
    identity_weight: Weight  # a share of cycle_weight
    history: Whole  # images the discriminators remember; 0: off


class TrainCyclegan(PeerJob):
    """F_xy (inside `super_resolver`), F_yx, D_x, D_y and a history of generated images for each discriminator."""

    name = "cyclegan"
    options: CycleganOptions

    def __init__(self, params: Params, inputs: PeerInputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = self.options
        self.genuine = Genuine(inputs.genuine, options.batch, params.seed, device)
        translator = {"width": options.width, "blocks": options.blocks}
        judge = Blueprint.of(PatchDiscriminator, {"width": options.d_width})
        history = Blueprint.of(ImageHistory, {"size": options.history})
        super_resolver = self.add_network("super_resolver", Blueprint.of(TranslatingSuperResolver, translator))
        assert isinstance(super_resolver, TranslatingSuperResolver)
        self.f_xy = super_resolver.translator
        self.f_yx = self.add_network("back_translator", Blueprint.of(Translator, translator))
        self.d_x, self.d_y = self.add_network("d_x", judge), self.add_network("d_y", judge)
        self.histories = {name: self.add_network(f"history_{name}", history) for name in ("x", "y")}
        self.add_adam("translators", [self.f_xy, self.f_yx], options.lr, GAN_BETAS)
        self.add_adam("judges", [self.d_x, self.d_y], options.lr, GAN_BETAS)

    def rate(self, step: int) -> float:
        """Constant, then to 0 on a line over what follows DECAY_FROM of the run."""
        first = DECAY_FROM * self.iterations
        return super().rate(step) * (1 - max(0.0, step - first) / max(1.0, self.iterations - first))

    def step(self, step: int) -> Losses:
        """The translators against the discriminators as they are, then the discriminators, as the original does."""
        x, y = up(self.genuine.batch(step)), self.pairs.batch(step)[1]
        with without_gradients(self.d_x, self.d_y):
            fake_y, same_y = self.translate(self.f_xy, x, y)
            fake_x, same_x = self.translate(self.f_yx, y, x)
            gan = l_gan(self.d_y(fake_y)) + l_gan(self.d_x(fake_x))
            cycle = F.l1_loss(self.f_yx(fake_y), x) + F.l1_loss(self.f_xy(fake_x), y)
            identity = F.l1_loss(same_y, y) + F.l1_loss(same_x, x)
            total = gan + self.options.cycle_weight * (cycle + self.options.identity_weight * identity)
            self.descend("translators", total)
        judge_x = self.judge(self.d_x, x, self.remembered("x", fake_x, step))
        judge_y = self.judge(self.d_y, y, self.remembered("y", fake_y, step))
        self.descend("judges", judge_x + judge_y)
        return {"l_gan": gan, "l_cycle": cycle, "l_identity": identity, "l_d_x": judge_x, "l_d_y": judge_y}

    def translate(self, f: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """f(source), and f(target), which should be the target; one pass, as instance norm allows."""
        if not self.options.identity_weight:
            return f(source), target
        translated, same = f(torch.cat([source, target])).chunk(2)
        return translated, same

    def remembered(self, name: str, fakes: Tensor, step: int) -> Tensor:
        """My share of what the history shows for everyone's fakes; every process keeps the same history."""
        history = self.histories[name]
        assert isinstance(history, ImageHistory)
        generator = torch.Generator().manual_seed(torch_seed(self.seed, self.name, "history", name, step))
        return share(history.exchange(gather(fakes), generator), len(fakes))

    def judge(self, d: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        scores_real, scores_fake = d(torch.cat([real, fake])).chunk(2)
        return l_d(scores_real, scores_fake)

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """L1 errors of the cycles and the identities, verdicts of D_x and D_y, change of colour.

        F_xy is the moving average, as exported; its way back is F_yx as it trains.
        """
        f_xy, f_yx = _translators(networks)
        x, y = up(self.genuine.sample(64)), self.pairs.sample(64)[1]
        fake_y, fake_x = in_batches(f_xy, x), in_batches(f_yx, y)
        return {
            **super().health(networks),
            "cycle_x": F.l1_loss(in_batches(f_yx, fake_y), x).item(),
            "cycle_y": F.l1_loss(in_batches(f_xy, fake_x), y).item(),
            "identity_x": F.l1_loss(in_batches(f_yx, x), x).item(),
            "identity_y": F.l1_loss(in_batches(f_xy, y), y).item(),
            **verdicts(in_batches(networks["d_x"], x), in_batches(networks["d_x"], fake_x), "d_x"),
            **verdicts(in_batches(networks["d_y"], y), in_batches(networks["d_y"], fake_y), "d_y"),
            "colour_shift": colour_shift(x, fake_y),
        }

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: genuine LR, bicubic, translated, cycled back; HR, and HR through F_xy, which should not change it."""
        f_xy, f_yx = _translators(networks)
        G, H = self.genuine.sample(SHEET_FACES), self.pairs.sample(SHEET_FACES)[1]
        translated = f_xy(up(G))
        return rows_of_faces(G, up(G), translated, f_yx(translated), H, f_xy(H))


def _translators(networks: Mapping[str, nn.Module]) -> tuple[nn.Module, nn.Module]:
    super_resolver = networks["super_resolver"]
    assert isinstance(super_resolver, TranslatingSuperResolver)
    return super_resolver.translator, networks["back_translator"]


def l_d(real: Tensor, fake: Tensor) -> Tensor:
    """What a discriminator minimises, of patch scores: half of E[(D(real) - 1)^2] + E[D(fake)^2] (section 7.1)."""
    return ((real - 1).square().mean() + fake.square().mean()) / 2


def l_gan(fake: Tensor) -> Tensor:
    """What a translator minimises of its discriminator: E[(D(fake) - 1)^2]."""
    return (fake - 1).square().mean()


def verdicts(real: Tensor, fake: Tensor, name: str) -> dict[str, float]:
    """Mean patch scores of a least-squares discriminator and its accuracy about one half."""
    right = (real > 0.5).float().mean() + (fake < 0.5).float().mean()
    return {
        f"{name}_real": real.mean().item(),
        f"{name}_fake": fake.mean().item(),
        f"{name}_accuracy": right.item() / 2,
    }


def colour_shift(before: Tensor, after: Tensor) -> float:
    """How far the mean colour of an image moves, averaged over images and channels, in [-1, 1] levels."""
    return F.l1_loss(after.mean(dim=(2, 3)), before.mean(dim=(2, 3))).item()
