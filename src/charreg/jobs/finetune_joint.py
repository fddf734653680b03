"""S2: phi_sr and phi_cr together (eq. 9), with D, Df and the frozen phi_inv and phi_fr."""

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
from charreg.models import Blueprint, Model, load_model, part
from charreg.networks.centreface import CentreFace
from charreg.params import Params, scaled_iterations
from charreg.resampling import ds, ds_area, up
from charreg.training import Job, Losses, without_gradients


@dataclass(frozen=True)
class FirstStage:
    """The models stage 2 starts from."""

    sr_module: Model
    characteristic: Model
    inverse_cr: Model
    centreface: Model

    @classmethod
    def load(cls, sr_module: Path, characteristic: Path, inverse_cr: Path, centreface: Path, image_gan: bool) -> Self:
        """Open the model folders; `image_gan` asks for its discriminator too.

        Raises CharregError naming the folder that does not hold a network stage 2 needs.
        """
        judge = ["image_discriminator"] if image_gan else []
        wanted = (
            (sr_module, ["super_resolver", *judge]),
            (characteristic, ["regulariser", "discriminator"]),
            (inverse_cr, ["inverse_regulariser"]),
            (centreface, ["centreface"]),
        )
        models = []
        for folder, names in wanted:
            models.append(load_model(folder))
            for name in names:
                part(models[-1], name, folder)
        return cls(*models)


class FinetuneJoint(Job):
    """Full CR: one D step, one Df step, one step of phi_sr and phi_cr on eq. 9 an iteration."""

    averaged = ("super_resolver", "regulariser")
    exports = ("super_resolver", "regulariser")

    def __init__(
        self,
        variant: str,
        params: Params,
        hr: FaceSet,
        genuine: FaceSet,
        first: FirstStage,
        device: torch.device,
    ) -> None:
        self.name = variant
        self.options, self.params = params.finetune_joint, params
        super().__init__(params.seed, self.options, scaled_iterations(self.options, params.epoch_scale), device)
        self.pairs = Pairs(hr, self.options.batch, params.seed, device)
        self.genuine = Genuine(genuine, self.options.batch, params.seed, device)
        self.blind = Blind(self.options, params.seed, self.name)
        self.phi_inv = freeze(first.inverse_cr.networks["inverse_regulariser"].to(device))
        phi_fr = first.centreface.networks["centreface"]
        if not isinstance(phi_fr, CentreFace):
            raise CharregError(
                f"centreface: found a network {type(phi_fr).__name__}, wanted CentreFace; give the folder that stage "
                "train_centreface writes"
            )
        self.phi_fr = freeze(phi_fr.to(device))

        self.phi_sr = self._continue("super_resolver", first.sr_module)
        self.phi_cr = self._continue("regulariser", first.characteristic)
        self.d = self._continue("discriminator", first.characteristic)
        self.df = self.add_network(
            "feature_discriminator",
            Blueprint(
                "FeatureDiscriminator",
                {"embedding": phi_fr.embedding, **params.feature_discriminator.model_dump(mode="json")},
            ),
        )
        count = self.options.lr_distance_faces
        self.lr_distance = LrDistance(lambda: self.pairs.sample(count)[0], device) if count else None
        self.add_adam("joint", [self.phi_sr, self.phi_cr], self.options.lr, self.options.betas)
        judge_rate = self.options.lr * self.options.d_lr_factor
        self.add_adam("d", [self.d], judge_rate, self.options.betas)
        self.add_adam("df", [self.df], judge_rate, self.options.betas)
        if self.options.keep_sr_adv:
            self.d_sr = self._continue("image_discriminator", first.sr_module)
            self.add_adam("d_sr", [self.d_sr], judge_rate, self.options.betas)
        self.ds = ds if self.options.ds == "bicubic_aa" else ds_area

    def _continue(self, name: str, model: Model) -> nn.Module:
        return self.add_network(name, model.blueprints[name], start=model.networks[name])

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        G = self.genuine.batch(step)
        with torch.no_grad():
            P = self.blind.hide_pseudo_details(self.phi_inv(A), step)
        R, regulated_P = self.phi_cr(torch.cat([G, P])).chunk(2)  # one batch: see S1d
        inputs = [A, R, regulated_P] if self.options.sr_on_pseudo else [A, R]
        super_resolved = self.phi_sr(torch.cat(inputs)).chunk(len(inputs))  # one batch, likewise
        S_A, S_R = super_resolved[:2]

        judge = self._judge_lr_faces(A, R.detach(), step)
        feature_judge = self._judge_features(H, S_R.detach())
        losses = {"l_d": judge, "l_df": feature_judge}
        if self.options.keep_sr_adv:
            losses["l_d_sr"] = judge_loss(real=self.d_sr(H), fake=self.d_sr(S_A.detach()))
            self.descend("d_sr", losses["l_d_sr"])

        with without_gradients(self.d, self.df):
            sr = l_sr(S_A, H)
            cr = l_cr(A, regulated_P, self.d(self.blind(R, step, "R to fool")), self.params.lambda_gan)
            cr_sr = l_cr_sr(S_R, R.detach() if self.options.detach_ul_target else R, self.ds)
            cr_gan = l_cr_gan(self.df(self.phi_fr(S_R)))
            total = l_joint(
                sr,
                cr,
                cr_sr,
                cr_gan,
                self.params.lambda_cr,
                self.params.lambda_cr_sr,
                self.lambda_cr_gan(step),
            )
            if self.options.sr_on_pseudo:
                total = total + l_sr(super_resolved[2], H)
            if self.options.keep_sr_adv:
                with without_gradients(self.d_sr):
                    total = total + self.options.keep_sr_adv * fool_loss(self.d_sr(S_A))
            self.descend("joint", total)
        return {"joint": total, "l_sr": sr, "l_cr": cr, "l_cr_sr": cr_sr, "l_cr_gan": cr_gan, **losses}

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

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        (A, H), G = self.pairs.sample(128), self.genuine.sample(128)
        R = in_batches(networks["regulariser"], G)
        S_R, S_A = (in_batches(networks["super_resolver"], faces) for faces in (R, A))
        P = in_batches(self.phi_inv, A)
        df = networks["feature_discriminator"]
        signals = {}
        if self.lr_distance is not None:
            faces = self.genuine.sample(self.options.lr_distance_faces)
            signals["lr_distance"] = self.lr_distance(in_batches(networks["regulariser"], faces))
        return {
            "psnr_train": psnr(S_A, H),
            "psnr_R_G": psnr(R, G),
            "psnr_P_A": psnr(P, A),
            "psnr_regulated_P_A": psnr(in_batches(networks["regulariser"], P), A),
            "mse_DS_S_R": mse(ds(S_R), R).item(),
            **verdicts(networks["discriminator"](A), networks["discriminator"](R), "d"),
            **verdicts(df(in_batches(self.phi_fr, H)), df(in_batches(self.phi_fr, S_R)), "df"),
            **signals,
        }

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: genuine LR, bicubic, regulated LR, super-resolved regulated LR."""
        G = self.genuine.sample(SHEET_FACES)
        R = networks["regulariser"](G)
        return rows_of_faces(G, up(G), R, networks["super_resolver"](R))
