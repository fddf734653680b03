"""SRGAN on artificial pairs (Ledig et al., CVPR 2017): SRResNet first, then content and adversarial losses."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from charreg.jobs.content import face_content, vgg_content
from charreg.jobs.peer import Inputs, PeerJob
from charreg.jobs.signals import in_batches, verdicts
from charreg.losses import fool_loss, judge_loss, mse
from charreg.models import Blueprint
from charreg.networks.srgan import Discriminator, Generator
from charreg.params import Params
from charreg.params import Srgan as Options
from charreg.training import Losses, without_gradients

CALIBRATION = 128  # pairs that set the scale of the stand-in content loss


class TrainSrgan(PeerJob):
    """mse for the first 1 - gan_share of the run (SRResNet), then

    L = pixel_weight * mse + content_weight * content + adv_weight * E[sp(-D(S))]

    at gan_lr_factor of the rate, for the second half of that part at a tenth of it. pixel_weight is 0 in the paper.
    """

    name = "srgan"

    def __init__(self, params: Params, inputs: Inputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = params.peers[self.name]
        assert isinstance(options, Options)
        self.options = options
        self.gan_start = round((1 - options.gan_share) * self.iterations)
        if options.vgg:
            self.content = vgg_content(Path(options.vgg), options.vgg_sha256, options.vgg_layer, device)
        else:
            self.content = face_content(inputs.recogniser, *self.pairs.sample(CALIBRATION))
            self.label = "SRGAN (face-feature content loss)"
        if self.gan_start == self.iterations:
            self.label = "SRResNet"
        self.generator = self.add_network(
            "super_resolver",
            Blueprint.of(Generator, options.model_dump(mode="json", include={"width", "blocks", "norm", "output"})),
        )
        self.d = self.add_network(
            "discriminator", Blueprint.of(Discriminator, {"width": options.d_width, "pooling": options.d_pooling})
        )
        self.add_adam("generator", [self.generator], options.lr, options.betas)
        self.add_adam("d", [self.d], options.lr * options.d_lr_factor, options.betas)

    def rate(self, step: int) -> float:
        late = step >= (self.gan_start + self.iterations) / 2
        factor = self.options.gan_lr_factor if step >= self.gan_start else 1.0
        return super().rate(step) * factor * (0.1 if late else 1.0)

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        S = self.generator(A)
        pixel = mse(S, H)
        if step < self.gan_start:
            self.descend("generator", pixel)
            zero = pixel.new_zeros(())
            return {"l_sr": pixel, "l_d": zero, "l_content": zero, "l_adv": zero}
        judge = judge_loss(real=self.d(H), fake=self.d(S.detach()))
        self.descend("d", judge)
        options, content = self.options, self.content(S, H)
        with without_gradients(self.d):
            adversarial = fool_loss(self.d(S))
            loss = options.pixel_weight * pixel + options.content_weight * content + options.adv_weight * adversarial
            self.descend("generator", loss)
        return {"l_sr": pixel, "l_d": judge, "l_content": content, "l_adv": adversarial}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        A, H = self.pairs.sample(128)
        judge = networks["discriminator"]
        verdict = verdicts(in_batches(judge, H), in_batches(judge, in_batches(networks["super_resolver"], A)), "d")
        return {**super().health(networks), **verdict}
