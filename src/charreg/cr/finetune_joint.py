"""Stage 2: phi_sr and phi_cr together (eq. 9), with D, Df and the frozen phi_inv and phi_fr; and its ablations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet
from charreg.core.models import Blueprint, Model, load_model, part, seed_folder
from charreg.core.params import Params, scaled_iterations
from charreg.core.resampling import ds, up
from charreg.cr.losses import l_cr, l_cr_gan, l_cr_sr, l_d, l_df, l_joint, l_sr
from charreg.metrics.lr_distance import LrDistance
from charreg.networks.blocks import freeze
from charreg.networks.centreface import CentreFace
from charreg.networks.discriminators import FeatureDiscriminator
from charreg.training.augment import Augment
from charreg.training.batches import Genuine, Pairs
from charreg.training.job import GAN_BETAS, Job, Losses, without_gradients
from charreg.training.objectives import discriminator_loss, generator_loss, mse
from charreg.training.signals import SHEET_FACES, in_batches, psnr, rows_of_faces, verdicts

Networks = Mapping[str, nn.Module]
UNUSED = Model({}, {}, {}, "")


@dataclass(frozen=True)
class FirstStage:
    """The models stage 2 starts from; UNUSED where the variant takes nothing of one."""

    sr_module: Model
    characteristic: Model = UNUSED
    inverse_cr: Model = UNUSED
    centreface: Model = UNUSED

    @classmethod
    def load(cls, folder: Path, uses: Mapping[str, tuple[str, ...]], seed: int, image_gan: bool) -> Self:
        """Open the models a variant `uses` in `folder`: of each what `seed` trained, the one recogniser for all seeds.

        image_gan: whether the discriminator of phi_sr is wanted too.
        Raises CharregError naming the folder that does not hold a network stage 2 needs.
        """
        models = {}
        for name, networks in uses.items():
            place = folder / name if name == "centreface" else seed_folder(folder / name, seed)
            models[name] = load_model(place)
            for network in (*networks, *(("image_discriminator",) if image_gan and name == "sr_module" else ())):
                part(models[name], network, place)
        return cls(**models)

    def used(self) -> dict[str, Model]:
        """The models by name, without those that are UNUSED."""
        return {name: model for name, model in vars(self).items() if model is not UNUSED}


class FinetuneJoint(Job):
    """One step of D, one of Df, one of phi_sr and phi_cr on eq. 9 an iteration."""

    name = "cr"  # while networks and noise are seeded: all variants start from one Df and see one noise
    variant: ClassVar[str] = "cr"
    uses: ClassVar[dict[str, tuple[str, ...]]] = {  # networks of the first stage, by model
        "sr_module": ("super_resolver",),
        "characteristic": ("regulariser", "discriminator"),
        "inverse_cr": ("inverse_regulariser",),
        "centreface": ("centreface",),
    }
    idle: ClassVar[frozenset[str]] = frozenset()  # parameters that cannot change the variant: no training anew for them

    def __init__(self, params: Params, hr: FaceSet, genuine: FaceSet, first: FirstStage, device: torch.device) -> None:
        self.options, self.params = params.finetune_joint, params
        super().__init__(params.seed, self.options, scaled_iterations(self.options, params.epoch_scale), device)
        self.pairs = Pairs(hr, self.options.batch, params.seed, device)
        self.genuine = Genuine(genuine, self.options.batch, params.seed, device)
        self.augment = Augment(self.options.d_jitter, params.seed, self.name)
        self.lr_distance: LrDistance | None = None
        self.generators: dict[str, nn.Module] = {}
        self.discriminators: dict[str, nn.Module] = {}
        self.phi_sr = self.generators["super_resolver"] = self._continue("super_resolver", first.sr_module)
        self.add_regulariser(first)
        self.add_feature_discriminator(first)
        if self.options.keep_sr_adv:
            self.d_sr = self.discriminators["d_sr"] = self._continue("image_discriminator", first.sr_module)
        self.averaged = self.exports = tuple(self.generators)
        self.add_adam("joint", list(self.generators.values()), self.options.lr, GAN_BETAS)
        for name, discriminator in self.discriminators.items():
            self.add_adam(name, [discriminator], self.options.lr * self.options.d_lr_factor, GAN_BETAS)
        self.name = self.variant

    def _continue(self, name: str, model: Model) -> nn.Module:
        return self.add_network(name, model.blueprints[name], start=model.networks[name])

    def add_regulariser(self, first: FirstStage) -> None:
        """phi_cr and D go on from stage 1; phi_inv is frozen."""
        self.phi_inv = freeze(first.inverse_cr.networks["inverse_regulariser"].to(self.device))
        self.phi_cr = self.generators["regulariser"] = self._continue("regulariser", first.characteristic)
        self.d = self.discriminators["d"] = self._continue("discriminator", first.characteristic)
        if count := self.options.lr_distance_faces:
            self.lr_distance = LrDistance(lambda: self.pairs.sample(count)[0], self.device)

    def add_feature_discriminator(self, first: FirstStage) -> None:
        """Df begins anew; phi_fr is frozen."""
        phi_fr = first.centreface.networks["centreface"]
        if not isinstance(phi_fr, CentreFace):
            raise CharregError(
                f"centreface: found a network {type(phi_fr).__name__}, wanted CentreFace; give the folder that "
                "stage train_centreface writes"
            )
        self.phi_fr = freeze(phi_fr.to(self.device))
        arguments = {"embedding": phi_fr.embedding, **self.params.feature_discriminator.model_dump(mode="json")}
        self.df = self.discriminators["df"] = self.add_network(
            "feature_discriminator", Blueprint.of(FeatureDiscriminator, arguments)
        )

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        G = self.genuine.batch(step)
        R, regulated_P = self.regulate(A, G, step)
        S_A, S_R, S_P = self.super_resolve(A, R, regulated_P)
        told_apart = self.train_discriminators(A, H, R, S_A, S_R, step)
        with without_gradients(*self.discriminators.values()):
            losses = {
                "l_sr": l_sr(S_A, H),
                **self.regularisation(A, R, regulated_P, step),
                **self.unsupervised(S_R, R),
            }
            total = self.joint(losses, step) + self.beyond_the_paper(H, S_A, S_P)
            self.descend("joint", total)
        return {"joint": total, **losses, **told_apart}

    def regulate(self, A: Tensor, G: Tensor, step: int) -> tuple[Tensor, Tensor | None]:
        """R = phi_cr(G), and phi_cr(P) of P = phi_inv(A); one batch, as in the pretraining of phi_cr."""
        with torch.no_grad():
            P = self.phi_inv(A)
            if self.options.pseudo_noise:
                P = self.augment.hide_pseudo_details(P, step, self.options.pseudo_noise)
        R, regulated_P = self.phi_cr(torch.cat([G, P])).chunk(2)
        return R, regulated_P

    def super_resolve(self, A: Tensor, R: Tensor, regulated_P: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """phi_sr of A, of R and, where asked for, of phi_cr(P): one batch, so that they share batch statistics."""
        pseudo = [regulated_P] if self.options.sr_on_pseudo and regulated_P is not None else []
        S_A, S_R, *S_P = self.phi_sr(torch.cat([A, R, *pseudo])).chunk(2 + len(pseudo))
        return S_A, S_R, S_P[0] if S_P else None

    def train_discriminators(self, A: Tensor, H: Tensor, R: Tensor, S_A: Tensor, S_R: Tensor, step: int) -> Losses:
        """A step of D (eq. 3), of Df (eq. 8) and, where the image GAN is kept, of D_sr."""
        losses = {**self.train_d(A, R.detach(), step), **self.train_df(H, S_R.detach())}
        if self.options.keep_sr_adv:
            losses["l_d_sr"] = discriminator_loss(real=self.d_sr(H), fake=self.d_sr(S_A.detach()))
            self.descend("d_sr", losses["l_d_sr"])
        return losses

    def train_d(self, A: Tensor, R: Tensor, step: int) -> Losses:
        logits_A, logits_R = self.d(self.augment(A, step, "A")), self.d(self.augment(R, step, "R"))
        loss = l_d(logits_A, logits_R)
        self.descend("d", loss)
        return {"l_d": loss}

    def train_df(self, H: Tensor, S: Tensor) -> Losses:
        with torch.no_grad():
            features_H, features_S = self.phi_fr(H), self.phi_fr(S)
        loss = l_df(self.df(features_H), self.df(features_S))
        self.descend("df", loss)
        return {"l_df": loss}

    def regularisation(self, A: Tensor, R: Tensor, regulated_P: Tensor | None, step: int) -> Losses:
        """Eq. 6."""
        assert regulated_P is not None
        return {"l_cr": l_cr(A, regulated_P, self.d(self.augment(R, step, "R to fool")), self.params.lambda_gan)}

    def unsupervised(self, S_R: Tensor, R: Tensor) -> Losses:
        """Eq. 7 and the generators' side of eq. 8."""
        return {"l_cr_sr": l_cr_sr(S_R, R), "l_cr_gan": l_cr_gan(self.df(self.phi_fr(S_R)))}

    def joint(self, losses: Losses, step: int) -> Tensor:
        """Eq. 9; the weight of eq. 8 rises from 0 over the first `adv_ramp` of the run while Df finds its feet."""
        weights = self.params.lambda_cr, self.params.lambda_cr_sr, self.lambda_cr_gan(step)
        return l_joint(losses["l_sr"], losses["l_cr"], losses["l_cr_sr"], losses["l_cr_gan"], *weights)

    def lambda_cr_gan(self, step: int) -> float:
        """The weight of eq. 8 at a step."""
        ramp = self.options.adv_ramp * self.iterations
        return self.params.lambda_cr_gan * min(1.0, step / ramp if ramp else 1.0)

    def beyond_the_paper(self, H: Tensor, S_A: Tensor, S_P: Tensor | None) -> Tensor:
        """Terms that switches add to eq. 9; zero without them."""
        extra = H.new_zeros(()) if S_P is None else l_sr(S_P, H)
        if self.options.keep_sr_adv:
            extra = extra + self.options.keep_sr_adv * generator_loss(self.d_sr(S_A))
        return extra

    def regulated(self, networks: Networks, G: Tensor) -> Tensor:
        """R of fixed faces, with the networks as they would be exported."""
        return in_batches(networks["regulariser"], G)

    def health(self, networks: Networks) -> dict[str, float]:
        (A, H), G = self.pairs.sample(128), self.genuine.sample(128)
        R = self.regulated(networks, G)
        S_R, S_A = (in_batches(networks["super_resolver"], faces) for faces in (R, A))
        return {
            "psnr_train": psnr(S_A, H),
            **self.health_of_regulariser(networks, A, G, R),
            "mse_DS_S_R": mse(ds(S_R), R).item(),
            **self.health_of_features(networks, H, S_R),
        }

    def health_of_regulariser(self, networks: Networks, A: Tensor, G: Tensor, R: Tensor) -> dict[str, float]:
        P = in_batches(self.phi_inv, A)
        signals = {
            "psnr_R_G": psnr(R, G),
            "psnr_P_A": psnr(P, A),
            "psnr_regulated_P_A": psnr(in_batches(networks["regulariser"], P), A),
            **verdicts(networks["discriminator"](A), networks["discriminator"](R), "d"),
        }
        if self.lr_distance is not None:
            faces = self.genuine.sample(self.options.lr_distance_faces)
            signals["lr_distance"] = self.lr_distance(self.regulated(networks, faces))
        return signals

    def health_of_features(self, networks: Networks, H: Tensor, S_R: Tensor) -> dict[str, float]:
        df = networks["feature_discriminator"]
        return verdicts(df(in_batches(self.phi_fr, H)), df(in_batches(self.phi_fr, S_R)), "df")

    def sheet(self, networks: Networks) -> npt.NDArray[np.uint8]:
        """Rows: genuine LR, bicubic, regulated LR (where there is a phi_cr), super-resolved regulated LR."""
        G = self.genuine.sample(SHEET_FACES)
        R = self.regulated(networks, G)
        return rows_of_faces(G, up(G), *([R] if R is not G else []), networks["super_resolver"](R))


class WithoutUnsupervisedLoss(FinetuneJoint):
    """W/O UL (Table 7): eq. 9 without eq. 7, which is measured all the same."""

    variant = "wo_ul"
    idle = frozenset({"lambda_cr_sr"})

    def joint(self, losses: Losses, step: int) -> Tensor:
        weights = self.params.lambda_cr, 0.0, self.lambda_cr_gan(step)
        return l_joint(losses["l_sr"], losses["l_cr"], losses["l_cr_sr"], losses["l_cr_gan"], *weights)


class WithoutRegulariser(FinetuneJoint):
    """W/O CR (Table 4): no phi_cr and no D; genuine faces stay as they are, R = G."""

    variant = "wo_cr"
    uses: ClassVar = {name: FinetuneJoint.uses[name] for name in ("sr_module", "centreface")}
    idle = frozenset({"lambda_gan", "lambda_cr"})

    def add_regulariser(self, first: FirstStage) -> None:
        """There is none."""

    def regulate(self, A: Tensor, G: Tensor, step: int) -> tuple[Tensor, None]:
        return G, None

    def train_d(self, A: Tensor, R: Tensor, step: int) -> Losses:
        return {}

    def regularisation(self, A: Tensor, R: Tensor, regulated_P: Tensor | None, step: int) -> Losses:
        return {}

    def joint(self, losses: Losses, step: int) -> Tensor:
        return super().joint({"l_cr": torch.zeros_like(losses["l_sr"]), **losses}, step)

    def regulated(self, networks: Networks, G: Tensor) -> Tensor:
        return G

    def health_of_regulariser(self, networks: Networks, A: Tensor, G: Tensor, R: Tensor) -> dict[str, float]:
        return {}


class WithoutSrOnRegulated(FinetuneJoint):
    """W/O SR-RI (Table 6), its other reading: phi_sr never trains on R, so there is neither eq. 7 nor eq. 8."""

    variant = "wo_sr_ri_joint"
    uses: ClassVar = {name: FinetuneJoint.uses[name] for name in ("sr_module", "characteristic", "inverse_cr")}
    idle = frozenset({"lambda_cr_sr", "lambda_cr_gan", "feature_discriminator"})

    def add_feature_discriminator(self, first: FirstStage) -> None:
        """There is none."""

    def super_resolve(self, A: Tensor, R: Tensor, regulated_P: Tensor | None) -> tuple[Tensor, Tensor, None]:
        S_A = self.phi_sr(A)
        return S_A, S_A[:0], None

    def train_df(self, H: Tensor, S: Tensor) -> Losses:
        return {}

    def unsupervised(self, S_R: Tensor, R: Tensor) -> Losses:
        return {}

    def joint(self, losses: Losses, step: int) -> Tensor:
        none = torch.zeros_like(losses["l_sr"])
        return super().joint({"l_cr_sr": none, "l_cr_gan": none, **losses}, step)

    def health_of_features(self, networks: Networks, H: Tensor, S_R: Tensor) -> dict[str, float]:
        return {}


VARIANTS: dict[str, type[FinetuneJoint]] = {  # L_sr is in every one
    job.variant: job for job in (FinetuneJoint, WithoutRegulariser, WithoutUnsupervisedLoss, WithoutSrOnRegulated)
}
