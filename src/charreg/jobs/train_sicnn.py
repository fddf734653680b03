"""SICNN (Zhang et al., ECCV 2018): CNN_H learns to keep the identity that CNN_R, trained along with it, sees.

First CNN_R on H and CNN_H on L_SR side by side, then domain-integrated training: in every step CNN_R on S and H,
then CNN_H on L_SR + alpha * L_SI with CNN_R fixed.
"""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.distributed import world_size
from charreg.jobs.peer import Inputs, PeerJob
from charreg.jobs.signals import in_batches
from charreg.losses import l_sr
from charreg.models import Blueprint
from charreg.networks.sicnn import AngularClassifier, CnnH, CnnR
from charreg.params import Params, Sicnn
from charreg.sampling import my_share
from charreg.training import Losses, without_gradients

JOINT_RATE = 0.1  # factor on the learning rate of CNN_H in the domain-integrated phase
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


class TrainSicnn(PeerJob):
    """CNN_H (`super_resolver`), CNN_R and its classifier; without identities CNN_H alone on L_SR."""

    name = "sicnn"

    def __init__(self, params: Params, inputs: Inputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = params.peers[self.name]
        assert isinstance(options, Sicnn)
        self.options = options
        people = inputs.hr.people(params.min_portraits)
        names = sorted({name for name in people if name})
        labels = {name: label for label, name in enumerate(names)}
        self.labels = np.array([labels.get(name, -1) for name in people], dtype=np.int64)  # -1: unknown
        self.has_identities = len(names) > 1
        self.joint_from = round(options.pretrain_share * self.iterations)
        self.cnn_h = self.add_network(
            "super_resolver", Blueprint.of(CnnH, {"width": options.width, "output": options.output})
        )
        if options.optim == "adam":
            self.add_adam("cnn_h", [self.cnn_h], options.lr, options.betas)
        else:
            self._add_sgd("cnn_h", [self.cnn_h], options.lr)
        if not self.has_identities:
            self.label = "SICNN (no identities)"
            return
        self.cnn_r = self.add_network(
            "cnn_r",
            Blueprint.of(
                CnnR,
                {
                    "width": options.recogniser_width,
                    "layers": options.recogniser_layers,
                    "embedding": options.embedding,
                },
            ),
        )
        self.classifier = self.add_network(
            "classifier", Blueprint.of(AngularClassifier, {"embedding": options.embedding, "classes": len(names)})
        )
        self._add_sgd("cnn_r", [self.cnn_r, self.classifier], options.recogniser_lr)

    def _add_sgd(self, name: str, networks: list[nn.Module], rate: float) -> None:
        parameters = [parameter for network in networks for parameter in network.parameters()]
        self.optimisers[name] = torch.optim.SGD(
            parameters, lr=rate, momentum=self.options.momentum, weight_decay=self.options.weight_decay
        )
        self.rates[name] = rate

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
        return (options.joint_recogniser_lr if joint else options.recogniser_lr) * 0.1**drops * self.rate(step)

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
        sr = l_sr(S, H)
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
