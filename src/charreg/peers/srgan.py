"""SRGAN (Ledig et al., CVPR 2017) on artificial pairs: SRResNet first, then content and adversarial losses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from charreg.core.models import Blueprint
from charreg.core.params import Count, Norm, Output, Params, PeerOptions, Positive, Share, Weight
from charreg.core.resampling import up
from charreg.networks.blocks import BatchNorm, ResidualBlock, Upsampler, norm_layer, zero_initialise
from charreg.networks.content import face_content, vgg_content
from charreg.peers.base import PeerInputs, PeerJob
from charreg.training.job import Losses, without_gradients
from charreg.training.objectives import discriminator_loss, generator_loss, mse
from charreg.training.signals import in_batches, verdicts


class SrganGenerator(nn.Module):
    """[B, 3, 16, 16] to [B, 3, 64, 64], both in [-1, 1]: all residual blocks at 16x16, then two doublings.

    output: `tanh` as published, or `residual`, UP(A) plus a zero-initialised last layer (beyond the paper: starts at
    bicubic, which pays in short runs). 1,549,462 parameters by default.
    """

    def __init__(
        self, width: int = 64, blocks: int = 16, norm: Norm = "bn", output: Literal["tanh", "residual"] = "tanh"
    ) -> None:
        super().__init__()
        self.output = output
        self.head = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(ResidualBlock(width, norm) for _ in range(blocks)),
            nn.Conv2d(width, width, 3, padding=1),
            norm_layer(norm, width),
        )
        last = nn.Conv2d(width, 3, 9, padding=4)
        if output == "residual":
            zero_initialise(last)
        self.tail = nn.Sequential(Upsampler(width), Upsampler(width), last)

    def forward(self, A: Tensor) -> Tensor:
        x = self.head(A)
        y = self.tail(x + self.body(x))
        return up(A) + y if self.output == "residual" else torch.tanh(y)


class SrganDiscriminator(nn.Module):
    """[B, 3, 64, 64] to logits [B]: eight conv3x3, every second of stride 2, and two linear layers.

    pooling: `flatten` hands all 4x4 places to the linear layers as published, `global` their mean.
    13,079,745 parameters by default, 5,215,425 with `global`.
    """

    def __init__(self, width: int = 64, pooling: Literal["flatten", "global"] = "flatten") -> None:
        super().__init__()
        self.pooling = pooling
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.LeakyReLU(0.2)]
        before = width
        for number, factor in enumerate((1, 2, 2, 4, 4, 8, 8)):
            stride = 1 if number % 2 else 2
            layers += [nn.Conv2d(before, factor * width, 3, stride, padding=1), BatchNorm(factor * width)]
            layers += [nn.LeakyReLU(0.2)]
            before = factor * width
        self.features = nn.Sequential(*layers)
        places = 4 * 4 if pooling == "flatten" else 1
        self.linear = nn.Sequential(nn.Linear(places * before, 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, 1))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x)
        if self.pooling == "global":
            maps = maps.mean(dim=(2, 3))
        return self.linear(maps.flatten(1)).squeeze(1)  # type: ignore[no-any-return]


CALIBRATION = 128  # pairs that set the scale of the stand-in content loss


class SrganOptions(PeerOptions):
    width: Count
    blocks: Count
    norm: Norm
    output: Output
    d_width: Count  # channels of the discriminator's first layer
    d_pooling: Literal["flatten", "global"]
    gan_share: Share  # of the iterations; the first part is SRResNet's
    gan_lr_factor: Positive  # on lr in the rest
    adv_weight: Weight
    content_weight: Weight
    pixel_weight: Weight
    vgg: str  # a safetensors or torch state file of VGG19; empty: the recogniser's features take its place
    vgg_sha256: str


class TrainSrgan(PeerJob):
    """mse for the first 1 - gan_share of the run (SRResNet), then

    L = pixel_weight * mse + content_weight * content + adv_weight * E[sp(-D(S))]

    at gan_lr_factor of the rate, for the second half of that part at a tenth of it. pixel_weight is 0 in the paper.
    """

    name = "srgan"
    options: SrganOptions

    def __init__(self, params: Params, inputs: PeerInputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = self.options
        self.gan_start = round((1 - options.gan_share) * self.iterations)
        if options.vgg:
            self.content = vgg_content(Path(options.vgg), options.vgg_sha256, device)
        else:
            self.content = face_content(inputs.recogniser, *self.pairs.sample(CALIBRATION))
            self.label = "SRGAN (face-feature content loss)"
        if self.gan_start == self.iterations:
            self.label = "SRResNet"
        layout = options.model_dump(mode="json", include={"width", "blocks", "norm", "output"})
        judging = {"width": options.d_width, "pooling": options.d_pooling}
        self.generator = self.add_network("super_resolver", Blueprint.of(SrganGenerator, layout))
        self.d = self.add_network("discriminator", Blueprint.of(SrganDiscriminator, judging))
        self.add_adam("generator", [self.generator], options.lr)
        self.add_adam("d", [self.d], options.lr)

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
        judge = discriminator_loss(real=self.d(H), fake=self.d(S.detach()))
        self.descend("d", judge)
        options, content = self.options, self.content(S, H)
        with without_gradients(self.d):
            adversarial = generator_loss(self.d(S))
            loss = options.pixel_weight * pixel + options.content_weight * content + options.adv_weight * adversarial
            self.descend("generator", loss)
        return {"l_sr": pixel, "l_d": judge, "l_content": content, "l_adv": adversarial}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        A, H = self.pairs.sample(128)
        judge = networks["discriminator"]
        verdict = verdicts(in_batches(judge, H), in_batches(judge, in_batches(networks["super_resolver"], A)), "d")
        return {**super().health(networks), **verdict}
