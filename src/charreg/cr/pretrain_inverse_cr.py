"""pretrain_inverse_cr: phi_inv against D_inv on genuine faces (eq. 5); trained by itself."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from charreg.core.faces import FaceSet
from charreg.core.models import Blueprint
from charreg.core.params import Params, scaled_iterations
from charreg.cr.losses import l_d_inv, l_inv
from charreg.cr.regulariser import Regulariser
from charreg.networks.discriminators import Discriminator
from charreg.training.augment import Augment
from charreg.training.batches import Genuine, Pairs
from charreg.training.job import GAN_BETAS, Job, Losses, without_gradients
from charreg.training.objectives import mse
from charreg.training.signals import SHEET_FACES, in_batches, psnr, rows_of_faces, verdicts


class PretrainInverseCr(Job):
    """phi_inv and D_inv; `content_weight * mse(P, A)` is beyond the paper."""

    name = "inverse_cr"
    averaged = ("inverse_regulariser",)
    exports = ("inverse_regulariser",)

    def __init__(self, params: Params, hr: FaceSet, genuine: FaceSet, device: torch.device) -> None:
        self.options = params.pretrain_inverse_cr
        super().__init__(params.seed, self.options, scaled_iterations(self.options, params.epoch_scale), device)
        self.pairs = Pairs(hr, self.options.batch, params.seed, device)
        self.genuine = Genuine(genuine, self.options.batch, params.seed, device)
        self.augment = Augment(self.options.d_jitter, params.seed, self.name)
        self.phi_inv = self.add_network(
            "inverse_regulariser", Blueprint.of(Regulariser, params.regulariser.model_dump(mode="json"))
        )
        self.d_inv = self.add_network(
            "inverse_discriminator",
            Blueprint.of(Discriminator, {"size": 16, **params.discriminator.model_dump(mode="json")}),
        )
        self.add_adam("phi_inv", [self.phi_inv], self.options.lr, GAN_BETAS)
        self.add_adam("d_inv", [self.d_inv], self.options.lr * self.options.d_lr_factor, GAN_BETAS)

    def step(self, step: int) -> Losses:
        A = self.pairs.artificial(step)
        G = self.genuine.batch(step)
        P = self.phi_inv(A)

        logits_G, logits_P = (
            self.d_inv(self.augment(G, step, "G")),
            self.d_inv(self.augment(P.detach(), step, "P")),
        )
        judge = l_d_inv(logits_G, logits_P)
        self.descend("d_inv", judge)

        with without_gradients(self.d_inv):
            inverse = l_inv(self.d_inv(self.augment(P, step, "P to fool")))
            content = mse(P, A)
            self.descend("phi_inv", inverse + self.options.content_weight * content)
        return {"l_d_inv": judge, "l_inv": inverse, "content": content}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        A, G = self.pairs.sample(256)[0], self.genuine.sample(256)
        P = in_batches(networks["inverse_regulariser"], A)
        judge = networks["inverse_discriminator"]
        return {"psnr_P_A": psnr(P, A), **verdicts(judge(G), judge(P), "d_inv")}

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: artificial LR, pseudo-genuine LR, (other) genuine LR."""
        A, _ = self.pairs.sample(SHEET_FACES)
        return rows_of_faces(A, networks["inverse_regulariser"](A), self.genuine.sample(SHEET_FACES))
