"""CycleGAN (Zhu et al., ICCV 2017) between enlarged genuine faces X = UP(G) and HR faces Y = H, never paired.

F_xy and F_yx translate, D_x and D_y judge with least squares; the super-resolver is F_xy(UP(.)).
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.distributed import gather
from charreg.jobs.data import Genuine
from charreg.jobs.peer import Inputs, PeerJob
from charreg.jobs.signals import SHEET_FACES, in_batches, rows_of_faces
from charreg.jobs.stabilisers import share
from charreg.models import Blueprint
from charreg.networks.cyclegan import ImageHistory, PatchDiscriminator, TranslatingSuperResolver, Translator
from charreg.params import Cyclegan, Params
from charreg.resampling import up
from charreg.sampling import torch_seed
from charreg.training import Losses, without_gradients


class TrainCyclegan(PeerJob):
    """F_xy (inside `super_resolver`), F_yx, D_x, D_y and a history of generated images for each discriminator."""

    name = "cyclegan"

    def __init__(self, params: Params, inputs: Inputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = params.peers[self.name]
        assert isinstance(options, Cyclegan)
        self.options = options
        self.genuine = Genuine(inputs.genuine, options.batch, params.seed, device)
        translator = {"width": options.width, "blocks": options.blocks}
        judge = Blueprint.of(PatchDiscriminator, {"width": options.d_width, "n_layers": options.n_layers})
        history = Blueprint.of(ImageHistory, {"size": options.history})
        super_resolver = self.add_network("super_resolver", Blueprint.of(TranslatingSuperResolver, translator))
        assert isinstance(super_resolver, TranslatingSuperResolver)
        self.f_xy = super_resolver.translator
        self.f_yx = self.add_network("back_translator", Blueprint.of(Translator, translator))
        self.d_x, self.d_y = self.add_network("d_x", judge), self.add_network("d_y", judge)
        self.histories = {name: self.add_network(f"history_{name}", history) for name in ("x", "y")}
        self.add_adam("translators", [self.f_xy, self.f_yx], options.lr, options.betas)
        self.add_adam("judges", [self.d_x, self.d_y], options.lr, options.betas)

    def rate(self, step: int) -> float:
        """Constant, then to 0 on a line over what follows `decay_from` of the run."""
        first = self.options.decay_from * self.iterations
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
