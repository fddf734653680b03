"""The CentreFace recogniser on HR faces with identities: softmax plus centre loss (Wen et al., ECCV 2016).

It is trained twice: as phi_fr, which losses use (eq. 8), and as the matcher, which measures rank-1 and which nothing
is trained against.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet
from charreg.core.models import Blueprint
from charreg.core.params import Params, scaled_iterations
from charreg.core.seeding import random_numbers, torch_seed
from charreg.core.tensors import to_tensor
from charreg.cr.losses import l_recognition, move_centres
from charreg.networks.centreface import CentreFace
from charreg.training import distributed
from charreg.training.augment import share, shift
from charreg.training.batches import Stream, my_share, take
from charreg.training.job import Job, Losses
from charreg.training.signals import SHEET_FACES, in_batches, rows_of_faces


def split_identities(faces: FaceSet, holdout: int, seed: int, least: int = 1) -> tuple[list[str], list[str]]:
    """Identities with at least so many portraits: to train on, and held out for the gate; each sorted."""
    names = sorted({name for name in faces.people(least) if name})
    if len(names) - holdout < 2:
        few = f" with {least} portraits" if least > 1 else ""
        raise CharregError(
            f"{faces.folder}: {len(names)} identities{few}, wanted at least {holdout + 2} "
            "(train_centreface.holdout_ids and two to tell apart); put every person's portraits in a folder of their "
            "own, or lower train_centreface.holdout_ids or min_portraits"
        )
    held = set(random_numbers(seed, "holdout").permutation(names)[:holdout].tolist())
    return [name for name in names if name not in held], sorted(held)


MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4  # the recogniser's own release, like the two that follow
MILESTONES = 16 / 28, 24 / 28  # shares of the run after which the rate drops to a tenth
ALPHA = 0.5  # of eq. 4, how far a centre moves
Purpose = Literal["centreface", "matcher"]


class CentreHead(nn.Module):
    """Training only: the classifier and the class centres."""

    centres: Tensor

    def __init__(self, embedding: int, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding, classes)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("centres", torch.zeros(classes, embedding))


class TrainCentreface(Job):
    """phi_fr with its head; SGD with warm-up and two drops of the rate."""

    averaged = ("centreface",)
    exports = ("centreface",)

    def __init__(self, purpose: Purpose, params: Params, hr: FaceSet, device: torch.device) -> None:
        self.name = purpose  # its own initial weights and noise
        self.options = params.train_centreface if purpose == "centreface" else params.train_matcher
        super().__init__(params.seed, self.options, scaled_iterations(self.options, params.epoch_scale), device)
        known, self.held_out = split_identities(hr, self.options.holdout_ids, params.seed, params.min_portraits)
        labels = {name: label for label, name in enumerate(known)}
        self.rows = np.array([row for row, name in enumerate(hr.identities) if name in labels], dtype=np.int64)
        self.labels = np.array([labels[hr.identities[row]] for row in self.rows], dtype=np.int64)
        self.images = hr.images
        self.stream = Stream(len(self.rows), self.options.batch, params.seed, "recognition")
        network = self.add_network("centreface", Blueprint.of(CentreFace, params.centreface.model_dump(mode="json")))
        assert isinstance(network, CentreFace)
        self.phi_fr = network
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(params.seed, self.name, "head"))
            self.head = CentreHead(network.embedding, len(known)).to(device)
        self.networks["head"] = self.head
        parameters = [*self.phi_fr.parameters(), *self.head.parameters()]
        self.optimisers["sgd"] = torch.optim.SGD(
            parameters,
            lr=self.options.lr,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
        )
        self.rates["sgd"] = self.options.lr

    def gate_faces(self, faces: FaceSet) -> FaceSet:
        """The faces of the people held out of training, as a face set."""
        held = np.array(
            [row for row, name in enumerate(faces.identities) if name in set(self.held_out)], dtype=np.int64
        )
        return replace(faces, images=faces.images[held], lr=None, index=faces.index.iloc[held].reset_index(drop=True))

    def rate(self, step: int) -> float:
        progress = step / self.iterations
        drops = sum(progress >= milestone for milestone in MILESTONES)
        warm = min(1.0, (progress + 1 / self.iterations) / self.options.warmup) if self.options.warmup else 1.0
        return super().rate(step) * warm * 0.1**drops

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Faces [b, 3, 64, 64], mirrored, shifted and noised at random, and labels [b]."""
        items, flips = my_share(self.stream.indices(step)), my_share(self.stream.flips(step))
        x = take(self.images, self.rows[items], flips, self.device)
        if self.options.shift:
            x = self._shifted(x, step)
        if self.options.noise:
            x = self._noised(x, step)
        return x, torch.from_numpy(self.labels[items]).to(self.device)

    def _shifted(self, x: Tensor, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(torch_seed(self.seed, self.name, "shift", step))
        draws = share(torch.rand(len(x) * distributed.world_size(), 2, generator=generator), len(x)) * 2 - 1
        return shift(x, draws.to(x.device), self.options.shift)

    def _noised(self, x: Tensor, step: int) -> Tensor:
        """Every face with Gaussian noise of a strength of its own, so that no faint pattern decides who it is."""
        generator = torch.Generator().manual_seed(torch_seed(self.seed, self.name, "noise", step))
        count = len(x) * distributed.world_size()
        strengths = share(torch.rand(count, 1, 1, 1, generator=generator), len(x))
        noise = share(torch.randn(count, *x.shape[1:], generator=generator), len(x))
        return x + (self.options.noise * strengths * noise).to(x.device)

    def step(self, step: int) -> Losses:
        x, y = self.batch(step)
        features = self.phi_fr(x)
        logits = self.head.classifier(features)
        loss = l_recognition(logits, y, features, self.head.centres, self.options.lambda_centre)
        self.descend("sgd", loss)
        move_centres(self.head.centres, distributed.gather(features), distributed.gather(y), ALPHA)
        return {"l_recognition": loss, "accuracy": (logits.argmax(dim=1) == y).float().mean()}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        chosen = random_numbers(self.seed, "fixed faces").permutation(len(self.rows))[:256]
        features = in_batches(networks["centreface"], to_tensor(self.images[self.rows[chosen]]).to(self.device))
        y = torch.from_numpy(self.labels[chosen]).to(self.device)
        right = self.head.classifier(features).argmax(dim=1) == y
        distance = (features - self.head.centres[y]).square().sum(dim=1)
        return {
            "accuracy_unmirrored": right.float().mean().item(),
            "feature_length": features.norm(dim=1).mean().item(),
            "centre_distance": distance.mean().item(),
        }

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """Rows: query faces, and for each the nearest other training face by cosine."""
        chosen = random_numbers(self.seed, "fixed faces").permutation(len(self.rows))[:256]
        faces = to_tensor(self.images[self.rows[chosen]]).to(self.device)
        features = F.normalize(in_batches(networks["centreface"], faces), dim=1)
        similarity = features @ features.T
        similarity.fill_diagonal_(-1)
        nearest = similarity[:SHEET_FACES].argmax(dim=1)
        return rows_of_faces(faces[:SHEET_FACES], faces[nearest])
