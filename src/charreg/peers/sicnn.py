"""SICNN (Zhang et al., ECCV 2018): CNN_H learns to keep the identity that CNN_R, trained along with it, sees.

First CNN_R on H by A-Softmax and CNN_H on L_SR side by side, then domain-integrated training: in every step CNN_R on S
and H, then CNN_H on L_SR + alpha * L_SI with CNN_R fixed.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.models import Blueprint
from charreg.core.params import Count, Params, PeerOptions, Positive, Share, Weight
from charreg.core.resampling import up
from charreg.networks.blocks import zero_initialise
from charreg.peers.base import PeerInputs, PeerJob, number_identities
from charreg.training.batches import my_share
from charreg.training.distributed import world_size
from charreg.training.job import Losses, without_gradients
from charreg.training.objectives import mse
from charreg.training.signals import in_batches

SLOPE = 0.25  # where a learned PReLU starts; outside the dense blocks it stays there
BLOCKS = {20: (1, 2, 4, 1), 36: (2, 4, 8, 2)}  # residual pairs after each stride of CNN_R, by its layers


def scaled(width: float, channels: int) -> int:
    return max(1, round(width * channels))


def _conv(before: int, after: int, learned: bool) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1), nn.PReLU(init=SLOPE) if learned else nn.LeakyReLU(SLOPE)
    )


def _double(channels: int, kernel: int) -> nn.Sequential:
    """[B, C, S, S] to [B, C, 2S, 2S]."""
    return nn.Sequential(
        nn.ConvTranspose2d(channels, channels, kernel, stride=2, padding=kernel // 2, output_padding=1),
        nn.LeakyReLU(SLOPE),
    )


class DenseBlock(nn.Module):
    """A first convolution, then `layers` ones that each see all before them and add `growth` channels."""

    def __init__(self, before: int, first: int, growth: int, layers: int, learned: bool = True) -> None:
        super().__init__()
        self.first = _conv(before, first, learned)
        self.layers = nn.ModuleList(_conv(first + i * growth, growth, learned) for i in range(layers))
        self.channels = first + layers * growth

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


class CnnH(nn.Module):
    """CNN_H: [B, 3, 16, 16] to [B, 3, 64, 64], both in [-1, 1]; two doublings for x4 where the original has three.

    width is a factor on every channel count. output: `tanh` as published, or `residual`, UP(x) plus a
    zero-initialised last layer (beyond the paper). 3,079,377 parameters at width 1: the 14 convolutions of the two
    dense blocks learn one slope each, the other PReLUs keep theirs.
    """

    def __init__(self, width: float = 1.0, output: Literal["tanh", "residual"] = "tanh") -> None:
        super().__init__()
        self.output = output
        first, growth = scaled(width, 64), scaled(width, 32)
        self.dense1 = DenseBlock(3, first, growth, layers=6)
        channels = self.dense1.channels
        self.double1 = _double(channels, kernel=3)
        self.dense2 = DenseBlock(channels, first, growth, layers=6)
        self.double2 = _double(channels, kernel=5)
        self.dense3 = DenseBlock(channels, first, growth, layers=2, learned=False)
        self.tail = nn.Conv2d(self.dense3.channels, 3, 5, padding=2)
        if output == "residual":
            zero_initialise(self.tail)

    def forward(self, x: Tensor) -> Tensor:
        y = self.double1(self.dense1(x))
        y = self.double2(self.dense2(y))
        y = self.tail(self.dense3(y))
        return up(x) + y if self.output == "residual" else torch.tanh(y)


class ResidualPair(nn.Module):
    """conv3x3 - PReLU - conv3x3 - PReLU plus identity, no batch norm; slopes are per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, padding=1),
            nn.PReLU(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class CnnR(nn.Module):
    """CNN_R: [B, 3, 64, 64] in [-1, 1] to embeddings [B, embedding], SphereFace's network (Liu et al., CVPR 2017).

    width is a factor on every channel count. 25,963,072 parameters with 36 layers, 15,854,912 with 20.
    """

    def __init__(self, width: float = 1.0, layers: Literal[20, 36] = 36, embedding: int = 512) -> None:
        super().__init__()
        before, stages = 3, []
        for channels, pairs in zip((64, 128, 256, 512), BLOCKS[layers], strict=True):
            after = scaled(width, channels)
            stages += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.PReLU(after)]
            stages += [ResidualPair(after) for _ in range(pairs)]
            before = after
        self.features = nn.Sequential(*stages)
        self.linear = nn.Linear(4 * 4 * before, embedding)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).flatten(1))  # type: ignore[no-any-return]


class AngularClassifier(nn.Module):
    """The classifier of A-Softmax with m = 4 (Liu et al., CVPR 2017, eq. 7), in training only; it has no bias."""

    def __init__(self, embedding: int, classes: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(F.normalize(torch.rand(classes, embedding) * 2 - 1, dim=1))

    def cosines(self, features: Tensor) -> Tensor:
        """cos(theta_j) of features [B, E] to every class: [B, C]."""
        return F.normalize(features, dim=1) @ F.normalize(self.directions, dim=1).T

    def forward(self, features: Tensor, labels: Tensor, annealing: float) -> Tensor:
        """Logits [B, C]: |f| cos(theta_j), and |f| (lambda cos(theta) + psi(theta)) / (1 + lambda) for the own class.

        features [B, E]; labels [B] in 0..C-1; annealing is lambda, and the larger it is, the weaker the margin.
        """
        cosines = self.cosines(features).clamp(-1, 1)
        own = cosines.gather(1, labels[:, None])
        softened = (annealing * own + psi(own)) / (1 + annealing)
        logits: Tensor = features.norm(dim=1, keepdim=True) * cosines.scatter(1, labels[:, None], softened)
        return logits


def psi(cosine: Tensor) -> Tensor:
    """(-1)^k cos(4 theta) - 2k with theta in [k pi/4, (k+1) pi/4]: falls from 1 to -7 as theta goes from 0 to pi."""
    k = (4 * cosine.detach().acos() / math.pi).floor().clamp(max=3)
    cos_4_theta = 8 * cosine**4 - 8 * cosine**2 + 1
    return (1 - 2 * (k % 2)) * cos_4_theta - 2 * k


JOINT_RATE = 0.1  # factor on the learning rate of CNN_H in the domain-integrated phase
JOINT_RECOGNISER_RATE = 1e-3  # of CNN_R in that phase
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # of CNN_R's SGD, as in the original
WEAKEST, STRONGEST = 1500.0, 5.0  # lambda of A-Softmax: margin nearly off, margin in force


def l_super_identity(features_S: Tensor, features_H: Tensor, weights: Tensor) -> Tensor:
    """L_SI: squared distance of unit embeddings, SUMMED over their dimensions, averaged over faces; H is the target.

    features [B, E], weights [B]: what a face counts in the average.
    """
    distances = (F.normalize(features_S, dim=1) - F.normalize(features_H.detach(), dim=1)).square().sum(dim=1)
    return (weights * distances).sum()


def l_a_softmax(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of A-Softmax logits [B, C]; labels [B]; weights [B]: what a face counts in the average."""
    return (weights * F.cross_entropy(logits, labels, reduction="none")).sum()


class SicnnOptions(PeerOptions):
    width: Positive  # factor on every channel count of CNN_H
    recogniser_width: Positive  # factor on every channel count of CNN_R
    recogniser_layers: Literal[20, 36]
    embedding: Count
    alpha: Weight  # of the identity loss
    pretrain_share: Share  # of the iterations that train CNN_R and CNN_H apart
    recogniser_lr: Positive
    milestones: list[Share]  # shares of the first phase after which CNN_R's rate drops to a tenth
    joint_milestones: list[Share]  # likewise of the domain-integrated phase
    output: Literal["tanh", "residual"]


class TrainSicnn(PeerJob):
    """CNN_H (`super_resolver`), CNN_R and its classifier; without identities CNN_H alone on L_SR."""

    name = "sicnn"
    options: SicnnOptions

    def __init__(self, params: Params, inputs: PeerInputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = self.options
        self.labels, people = number_identities(inputs.hr.people(params.min_portraits))
        self.has_identities = people > 1
        self.joint_from = round(options.pretrain_share * self.iterations)
        enlarging = {"width": options.width, "output": options.output}
        self.cnn_h = self.add_network("super_resolver", Blueprint.of(CnnH, enlarging))
        self.add_adam("cnn_h", [self.cnn_h], options.lr)
        if not self.has_identities:
            self.label = "SICNN (no identities)"
            return
        size = {"embedding": options.embedding}
        recognising = {"width": options.recogniser_width, "layers": options.recogniser_layers, **size}
        self.cnn_r = self.add_network("cnn_r", Blueprint.of(CnnR, recognising))
        self.classifier = self.add_network("classifier", Blueprint.of(AngularClassifier, {**size, "classes": people}))
        self.optimisers["cnn_r"] = torch.optim.SGD(
            [*self.cnn_r.parameters(), *self.classifier.parameters()],
            lr=options.recogniser_lr,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
        )
        self.rates["cnn_r"] = options.recogniser_lr

    def joint(self, step: int) -> bool:
        """Whether a step belongs to the domain-integrated phase."""
        return self.has_identities and step >= self.joint_from

    def rate_of(self, optimiser: str, step: int) -> float:
        """The recogniser's rate falls to a tenth at every milestone of the phase the step is in."""
        options, joint = self.options, self.joint(step)
        if optimiser != "cnn_r":
            return super().rate_of(optimiser, step) * (JOINT_RATE if joint else 1.0)
        first, end = (self.joint_from, self.iterations) if joint else (0, self.joint_from)
        progress = (step - first) / max(1, end - first)
        drops = sum(progress >= share for share in (options.joint_milestones if joint else options.milestones))
        return (JOINT_RECOGNISER_RATE if joint else options.recogniser_lr) * 0.1**drops * self.rate(step)

    def annealing(self, step: int) -> float:
        """lambda of A-Softmax: 1500 / (1 + 0.1 t) down to 5, t the steps CNN_R has made."""
        return max(STRONGEST, WEAKEST / (1 + 0.1 * (step + 1)))

    def identities(self, step: int) -> tuple[Tensor, Tensor]:
        """Labels [b] of this process's share of the batch, and what each face counts in the identity losses [b].

        Faces without an identity count nothing (their label 0 means nothing); the others share one, over the
        global batch.
        """
        labels = self.labels[self.pairs.stream.indices(step)]
        weights = (labels >= 0) * world_size() / max(1, int((labels >= 0).sum()))
        return (
            torch.from_numpy(my_share(labels.clip(min=0))).to(self.device),
            torch.from_numpy(my_share(weights)).float().to(self.device),
        )

    def recognition(self, x: Tensor, step: int) -> Tensor:
        """A-Softmax(CNN_R(x), y)."""
        labels, weights = self.identities(step)
        return l_a_softmax(self.classifier(self.cnn_r(x), labels, self.annealing(step)), labels, weights)

    def step(self, step: int) -> Losses:
        A, H = self.pairs.batch(step)
        S = self.cnn_h(A)
        sr = mse(S, H)
        nothing = sr.new_zeros(())
        if not self.has_identities:
            self.descend("cnn_h", sr)
            return {"l_sr": sr, "l_si": nothing, "l_r_hr": nothing, "l_r_sr": nothing}
        if not self.joint(step):
            recognition_H = self.recognition(H, step)
            self.descend("cnn_r", recognition_H)
            self.descend("cnn_h", sr)
            return {"l_sr": sr, "l_si": nothing, "l_r_hr": recognition_H, "l_r_sr": nothing}
        recognition_H, recognition_S = self.recognition(H, step), self.recognition(S.detach(), step)
        self.descend("cnn_r", recognition_S + recognition_H)
        with without_gradients(self.cnn_r):
            equal = S.new_full((len(S),), 1 / len(S))  # it needs no names: every face counts
            identity = l_super_identity(self.cnn_r(S), self.cnn_r(H), equal)
            self.descend("cnn_h", sr + self.options.alpha * identity)
        return {"l_sr": sr, "l_si": identity, "l_r_hr": recognition_H, "l_r_sr": recognition_S}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """Besides the usual: how CNN_R names H and S, and L_SI, on fixed faces of known people."""
        signals = super().health(networks)
        rows = self.pairs.fixed[:128]
        known = torch.from_numpy(self.labels[rows] >= 0).to(self.device)
        if not (self.has_identities and known.any()):
            return signals
        A, H = (faces[known] for faces in self.pairs.sample(128))
        y = torch.from_numpy(self.labels[rows]).to(self.device)[known]
        classifier = networks["classifier"]
        assert isinstance(classifier, AngularClassifier)
        features_H = in_batches(networks["cnn_r"], H)
        features_S = in_batches(networks["cnn_r"], in_batches(networks["super_resolver"], A))
        accuracy = {
            f"accuracy_{side}": (classifier.cosines(features).argmax(dim=1) == y).float().mean().item()
            for side, features in (("hr", features_H), ("sr", features_S))
        }
        distance = l_super_identity(features_S, features_H, torch.full((len(y),), 1 / len(y), device=self.device))
        return {**signals, **accuracy, "l_si": distance.item()}
