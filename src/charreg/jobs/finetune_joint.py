"""S2: phi_sr and phi_cr together (eq. 9), with D, Df and the frozen phi_inv and phi_fr; and its ablations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from charreg.errors import CharregError
from charreg.faces import FaceSet
from charreg.jobs.data import Genuine, Pairs
from charreg.jobs.lr_distance import LrDistance
from charreg.jobs.signals import SHEET_FACES, in_batches, psnr, rows_of_faces, verdicts
from charreg.jobs.stabilisers import Blind, lazy_r1
from charreg.losses import (
    fool_loss,
    freeze,
    judge_loss,
    l_cr,
    l_cr_gan,
    l_cr_sr,
    l_d,
    l_df,
    l_joint,
    l_sr,
    mse,
)
from charreg.models import Blueprint, Model, load_model, part, seed_folder
from charreg.networks.centreface import CentreFace
from charreg.params import Params, scaled_iterations
from charreg.resampling import ds, ds_area, up
from charreg.training import Job, Losses, without_gradients


@dataclass(frozen=True)
class Terms:
    """What a variant minimises of eq. 9: L_sr + lambda_cr L_cr + lambda_cr_sr L_cr_sr + lambda_cr_gan L_cr_gan."""

    l_cr: bool  # eq. 6: phi_cr, with D and the frozen phi_inv; without it genuine faces stay as they are, R = G
    l_cr_sr: bool  # eq. 7, the unsupervised SR loss
    l_cr_gan: bool  # eq. 8, with Df and the frozen phi_fr

    @property
    def sr_ri(self) -> bool:
        """Whether phi_sr trains on R at all (SR on regulated images)."""
        return self.l_cr_sr or self.l_cr_gan

    @property
    def idle(self) -> frozenset[str]:
        """Parameters that cannot change the variant: it is not trained anew for them."""
        weights = {"lambda_gan": self.l_cr, "lambda_cr": self.l_cr}
        weights |= {"lambda_cr_sr": self.l_cr_sr, "lambda_cr_gan": self.l_cr_gan, "feature_discriminator": self.sr_ri}
        return frozenset(name for name, used in weights.items() if not used)


TERMS = {  # L_sr is in every row; Table 5 and the first reading of Table 6 have no stage 2
    "cr": Terms(l_cr=True, l_cr_sr=True, l_cr_gan=True),  # the method
    "wo_cr": Terms(l_cr=False, l_cr_sr=True, l_cr_gan=True),  # Table 4, W/O CR
    "wo_ul": Terms(l_cr=True, l_cr_sr=False, l_cr_gan=True),  # Table 7, W/O UL; eq. 7 is still measured
    "wo_sr_ri_joint": Terms(l_cr=True, l_cr_sr=False, l_cr_gan=False),  # Table 6, W/O SR-RI, its other reading
}

UNUSED = Model({}, {}, {}, "")


@dataclass(frozen=True)
class FirstStage:
    """The models stage 2 starts from; UNUSED where the variant takes nothing of one."""

    sr_module: Model
    characteristic: Model = UNUSED
    inverse_cr: Model = UNUSED
    centreface: Model = UNUSED

    @classmethod
    def load(
        cls,
        variant: str,
        seed: int,
        sr_module: Path,
        characteristic: Path,
        inverse_cr: Path,
        centreface: Path,
        image_gan: bool,
    ) -> Self:
        """Open the model folders the variant uses: of each what `seed` trained, the one recogniser for all seeds.

        `image_gan` asks for the discriminator of phi_sr too.
        Raises CharregError naming the folder that does not hold a network stage 2 needs.
        """
        terms = TERMS[variant]
        wanted = (
            ("sr_module", sr_module, ["super_resolver", *["image_discriminator"] * image_gan]),
            ("characteristic", characteristic, ["regulariser", "discriminator"] * terms.l_cr),
            ("inverse_cr", inverse_cr, ["inverse_regulariser"] * terms.l_cr),
            ("centreface", centreface, ["centreface"] * terms.sr_ri),
        )
        models = {}
        for name, folder, networks in wanted:
            if networks:
                place = folder if name == "centreface" else seed_folder(folder, seed)
                models[name] = load_model(place)
                for network in networks:
                    part(models[name], network, place)
        return cls(**models)

    def used(self) -> dict[str, Model]:
        """The models by name, without those that are UNUSED."""
        return {name: model for name, model in vars(self).items() if model is not UNUSED}


class FinetuneJoint(Job):
    """One D step, one Df step, one step of phi_sr and phi_cr on eq. 9 an iteration; a variant has what TERMS leaves."""

    name = "cr"  # while networks and noise are seeded: all variants start from one Df and see one noise

    def __init__(
        self,
        variant: str,
        params: Params,
        hr: FaceSet,
        genuine: FaceSet,
        first: FirstStage,
        device: torch.device,
    ) -> None:
        self.options, self.params, self.terms = params.finetune_joint, params, TERMS[variant]
        super().__init__(params.seed, self.options, scaled_iterations(self.options, params.epoch_scale), device)
        self.pairs = Pairs(hr, self.options.batch, params.seed, device)
        self.genuine = Genuine(genuine, self.options.batch, params.seed, device)
        self.blind = Blind(self.options, params.seed, self.name)
        self.ds = ds if self.options.ds == "bicubic_aa" else ds_area
        self.sr_on_pseudo = self.options.sr_on_pseudo and self.terms.l_cr and self.terms.sr_ri

        self.judges: dict[str, nn.Module] = {}
        self.phi_sr = self._continue("super_resolver", first.sr_module)
        generators = {"super_resolver": self.phi_sr}
        if self.terms.l_cr:
            self.phi_inv = freeze(first.inverse_cr.networks["inverse_regulariser"].to(device))
            self.phi_cr = generators["regulariser"] = self._continue("regulariser", first.characteristic)
            self.d = self.judges["d"] = self._continue("discriminator", first.characteristic)
        if self.terms.sr_ri:
            phi_fr = first.centreface.networks["centreface"]
            if not isinstance(phi_fr, CentreFace):
                raise CharregError(
                    f"centreface: found a network {type(phi_fr).__name__}, wanted CentreFace; give the folder that "
                    "stage train_centreface writes"
                )
            self.phi_fr = freeze(phi_fr.to(device))
            arguments = {"embedding": phi_fr.embedding, **params.feature_discriminator.model_dump(mode="json")}
            blueprint = Blueprint("FeatureDiscriminator", arguments)
            self.df = self.judges["df"] = self.add_network("feature_discriminator", blueprint)
        if self.options.keep_sr_adv:
            self.d_sr = self.judges["d_sr"] = self._continue("image_discriminator", first.sr_module)
        self.averaged = self.exports = tuple(generators)

        self.add_adam("joint", list(generators.values()), self.options.lr, self.options.betas)
        for name, judge in self.judges.items():
            self.add_adam(name, [judge], self.options.lr * self.options.d_lr_factor, self.options.betas)
        count = self.options.lr_distance_faces if self.terms.l_cr else 0
        self.lr_distance = LrDistance(lambda: self.pairs.sample(count)[0], device) if count else None
        self.name = variant

    def _continue(self, name: str, model: Model) -> nn.Module:
        return self.add_network(name, model.blueprints[name], start=model.networks[name])

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        G = self.genuine.batch(step)
        R = G  # where there is no phi_cr
        if self.terms.l_cr:
            with torch.no_grad():
                P = self.blind.hide_pseudo_details(self.phi_inv(A), step)
            R, regulated_P = self.phi_cr(torch.cat([G, P])).chunk(2)  # one batch: see S1d
        inputs = {"A": A}
        if self.terms.sr_ri:
            inputs["R"] = R
        if self.sr_on_pseudo:
            inputs["regulated P"] = regulated_P
        S = dict(zip(inputs, self.phi_sr(torch.cat([*inputs.values()])).chunk(len(inputs)), strict=True))  # likewise

        judged = {}
        if self.terms.l_cr:
            judged["l_d"] = self._judge_lr_faces(A, R.detach(), step)
        if self.terms.sr_ri:
            judged["l_df"] = self._judge_features(H, S["R"].detach())
        if self.options.keep_sr_adv:
            judged["l_d_sr"] = judge_loss(real=self.d_sr(H), fake=self.d_sr(self._fakes(S).detach()))
            self.descend("d_sr", judged["l_d_sr"])

        with without_gradients(*self.judges.values()):
            losses = {"l_sr": l_sr(S["A"], H)}
            if self.terms.l_cr:
                logits_R = self.d(self.blind(R, step, "R to fool"))
                losses["l_cr"] = l_cr(A, regulated_P, logits_R, self.params.lambda_gan)
            if self.terms.sr_ri:
                target = R.detach() if self.options.detach_ul_target else R
                losses["l_cr_sr"] = l_cr_sr(S["R"], target, self.ds)
                losses["l_cr_gan"] = l_cr_gan(self.df(self.phi_fr(S["R"])))
            total = self._l_joint(losses, step)
            if self.sr_on_pseudo:
                total = total + l_sr(S["regulated P"], H)
            if self.options.keep_sr_adv:
                total = total + self.options.keep_sr_adv * fool_loss(self.d_sr(self._fakes(S)))
            self.descend("joint", total)
        return {"joint": total, **losses, **judged}

    def _fakes(self, S: Losses) -> Tensor:
        """What the image GAN judges of the super-resolved faces."""
        if self.options.sr_adv_on_regulated and self.terms.sr_ri:
            return torch.cat([S["A"], S["R"]])
        return S["A"]

    def _l_joint(self, losses: Losses, step: int) -> Tensor:
        """Eq. 9 of the terms there are."""
        none = torch.zeros_like(losses["l_sr"])
        return l_joint(
            losses["l_sr"],
            losses.get("l_cr", none),
            losses.get("l_cr_sr", none),
            losses.get("l_cr_gan", none),
            self.params.lambda_cr,
            self.params.lambda_cr_sr if self.terms.l_cr_sr else 0.0,
            self.lambda_cr_gan(step),
        )

    def lambda_cr_gan(self, step: int) -> float:
        """The weight of eq. 8, rising from 0 over the first `adv_ramp` of the run while Df finds its feet."""
        ramp = self.options.adv_ramp * self.iterations
        return self.params.lambda_cr_gan * min(1.0, step / ramp if ramp else 1.0)

    def _judge_lr_faces(self, A: Tensor, R: Tensor, step: int) -> Tensor:
        logits_A, logits_R = self.d(self.blind(A, step, "A")), self.d(self.blind(R, step, "R"))
        loss = l_d(logits_A, logits_R, self.options.label_smoothing)
        self.descend("d", loss + lazy_r1(self.d, A, self.options, step))
        return loss

    def _judge_features(self, H: Tensor, S: Tensor) -> Tensor:
        with torch.no_grad():
            features_H, features_S = self.phi_fr(H), self.phi_fr(S)
        loss = l_df(self.df(features_H), self.df(features_S), self.options.label_smoothing)
        self.descend("df", loss)
        return loss

    def _regulated(self, networks: Mapping[str, nn.Module], G: Tensor) -> Tensor:
        return in_batches(networks["regulariser"], G) if self.terms.l_cr else G

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        (A, H), G = self.pairs.sample(128), self.genuine.sample(128)
        R = self._regulated(networks, G)
        S_R, S_A = (in_batches(networks["super_resolver"], faces) for faces in (R, A))
        signals = {"psnr_train": psnr(S_A, H)}
        if self.terms.l_cr:
            P = in_batches(self.phi_inv, A)
            signals["psnr_R_G"] = psnr(R, G)
            signals["psnr_P_A"] = psnr(P, A)
            signals["psnr_regulated_P_A"] = psnr(in_batches(networks["regulariser"], P), A)
        signals["mse_DS_S_R"] = mse(ds(S_R), R).item()
        if self.terms.l_cr:
            signals |= verdicts(networks["discriminator"](A), networks["discriminator"](R), "d")
        if self.terms.sr_ri:
            df = networks["feature_discriminator"]
            signals |= verdicts(df(in_batches(self.phi_fr, H)), df(in_batches(self.phi_fr, S_R)), "df")
        if self.lr_distance is not None:
            faces = self.genuine.sample(self.options.lr_distance_faces)
            signals["lr_distance"] = self.lr_distance(self._regulated(networks, faces))
        return signals

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: genuine LR, bicubic, regulated LR (where there is a phi_cr), super-resolved regulated LR."""
        G = self.genuine.sample(SHEET_FACES)
        R = self._regulated(networks, G)
        return rows_of_faces(G, up(G), *([R] if self.terms.l_cr else []), networks["super_resolver"](R))
