"""CSRI (Cheng, Zhu and Gong, ACCV 2018): super-resolution and identity learnt jointly on artificial and genuine faces.

Two branches share ALL weights of SR (VDSR) and FR (CentreFace); each has a classifier of its own:
synthetic, A -> SR -> FR, pixel loss and identity loss; native, G -> SR -> FR, identity loss alone.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from charreg.core.embedding import embed_for_matching, embedder_of
from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet
from charreg.core.models import Blueprint
from charreg.core.params import Count, Number, Params, PeerOptions, Weight
from charreg.core.resampling import up
from charreg.core.seeding import random_numbers, torch_seed
from charreg.core.tensors import to_images, to_tensor
from charreg.networks.centreface import CentreFace
from charreg.networks.deep_residual import Vdsr
from charreg.peers.base import UNKNOWN, Labels, PeerInputs, PeerJob, number_identities
from charreg.training import distributed
from charreg.training.batches import Pairs, Stream, my_share, take
from charreg.training.job import Losses
from charreg.training.objectives import mse
from charreg.training.signals import in_batches

Points = npt.NDArray[np.float32]
CELLS = 2**24  # of a table of distances, points by centres: 64 MiB
CHUNK = 1024  # faces enlarged at a time


def l_id(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits [b, C], a mean over the batch to which faces with y = UNKNOWN add nothing."""
    return F.cross_entropy(logits, y, ignore_index=UNKNOWN, reduction="sum") / len(y)


def l_csri(id_native: Tensor, id_syn: Tensor, sr: Tensor, lambda_sr: float) -> Tensor:
    """L_id_native + L_id_syn + lambda_sr * mse(S, H).

    The published lambda_sr = 0.003 multiplies the SUM of squared differences of an image in [0, 1]; on the mean over
    3x64x64 values in [-1, 1] that is 0.003 * 12,288 / 4 = 9.2.
    """
    return id_native + id_syn + lambda_sr * sr


class IdentityHead(nn.Module):
    """Training only: the classifier of one set of identities, and the label of every face of its face set."""

    labels: Tensor  # a buffer, so that a resumed run keeps the clusters it began with

    def __init__(self, embedding: int, labels: Labels, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(embedding, classes)
        nn.init.xavier_uniform_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("labels", torch.from_numpy(labels))

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(features)  # type: ignore[no-any-return]

    def labels_of(self, faces: npt.NDArray[np.int64]) -> Tensor:
        return self.labels[torch.from_numpy(faces).to(self.labels.device)]

    def labelled(self) -> npt.NDArray[np.int64]:
        """The faces with a label."""
        return np.flatnonzero(self.labels.cpu().numpy() != UNKNOWN)


SHARES = (0.25, 0.25)  # of the iterations: SR alone, then the synthetic branch; the rest trains both


class CsriOptions(PeerOptions):
    width: Count  # of its VDSR
    depth: Annotated[int, Number, Field(ge=3)]
    lambda_sr: Weight  # on the mean squared error in [-1, 1]
    native_ids: Literal["auto", "manifest", "pseudo", "none"]  # auto: manifest where it names people, else pseudo
    cluster_size: Count  # pseudo: faces a cluster has on average
    smallest_cluster: Count


class TrainCsri(PeerJob):
    """SR, FR (which starts from the recogniser) and the two heads.

    First SR alone, then the synthetic branch, then both, half of every batch synthetic and half native.
    """

    name = "csri"
    options: CsriOptions

    def __init__(self, params: Params, inputs: PeerInputs, device: torch.device) -> None:
        super().__init__(params, inputs, device)
        options = self.options
        self.sr = self.add_network(
            "super_resolver", Blueprint.of(Vdsr, {"width": options.width, "depth": options.depth})
        )
        self.fr = deepcopy(inputs.recogniser).to(device).train().requires_grad_(True)
        self.networks["recogniser"] = self.fr

        labels, people = number_identities(inputs.hr.people(params.min_portraits))
        if people < 2:
            raise CharregError(
                f"{inputs.hr.folder}: {people} identities, wanted at least 2 for {self.name}; put every person's "
                "portraits in a folder of their own"
            )
        self.synthetic = self._add_head("synthetic_head", labels, people)

        self.native: IdentityHead | None = None
        ids = native_ids(options, inputs.genuine)
        if ids == "none":
            self.label = "CSRI (synthetic branch)"
        else:
            if options.batch % (2 * distributed.world_size()):
                raise CharregError(
                    f"{self.name}: batch {options.batch}, wanted a multiple of {2 * distributed.world_size()}: every "
                    "process takes half of its share from each branch"
                )
            if ids == "pseudo":
                self.label = "CSRI (pseudo identities)"
                labels, people = pseudo_identities(options, inputs.genuine, inputs.recogniser, params.seed, device)
            else:
                labels, people = number_identities(inputs.genuine.identities)
            self.native = self._add_head("native_head", labels, people)
            self.half = Pairs(inputs.hr, options.batch // 2, params.seed, device)
        self.genuine = inputs.genuine

        networks = [self.sr, self.fr, self.synthetic, *([self.native] if self.native else [])]
        self.add_adam("all", networks, options.lr)

    def _add_head(self, name: str, labels: Labels, classes: int) -> IdentityHead:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(self.seed, self.name, name))
            head = IdentityHead(self.fr.embedding, labels, classes).to(self.device)
        self.networks[name] = head
        return head

    def synthetic_batch(self, pairs: Pairs, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """A, H and the labels of H."""
        return *pairs.batch(step), self.synthetic.labels_of(my_share(pairs.stream.indices(step)))

    def native_batch(self, head: IdentityHead, step: int) -> tuple[Tensor, Tensor]:
        """Half a batch of labelled genuine faces G, and their labels."""
        faces = head.labelled()
        stream = Stream(len(faces), self.options.batch // 2, self.seed, "native")
        chosen, flips = my_share(faces[stream.indices(step)]), my_share(stream.flips(step))
        return take(self.genuine.images, chosen, flips, self.device), head.labels_of(chosen)

    def step(self, step: int) -> Losses:
        alone, synthetic = SHARES
        progress = step / self.iterations
        native = self.native if progress >= alone + synthetic else None

        A, H, y = self.synthetic_batch(self.half if native else self.pairs, step)
        G, y_native = self.native_batch(native, step) if native else (A[:0], y[:0])
        S = self.sr(torch.cat([A, G]))  # ONE batch, here and below: batch statistics are those of the mixture
        sr = mse(S[: len(A)], H)
        id_syn = id_native = sr.new_zeros(())
        if progress >= alone:
            features = self.fr(S)
            id_syn = l_id(self.synthetic(features[: len(A)]), y)
            if native:
                id_native = l_id(native(features[len(A) :]), y_native)
        self.descend("all", l_csri(id_native, id_syn, sr, self.options.lambda_sr))
        return {"l_sr": sr, "l_id_syn": id_syn, "l_id_native": id_native}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        def accuracy(head: IdentityHead, lr_faces: Tensor, faces: npt.NDArray[np.int64]) -> float:
            features = in_batches(networks["recogniser"], in_batches(networks["super_resolver"], lr_faces))
            y = head.labels_of(faces)
            right = head(features).argmax(dim=1) == y
            return float(right[y != UNKNOWN].float().mean())

        A, _ = self.pairs.sample(128)
        signals = {"accuracy_syn": accuracy(self.synthetic, A, self.pairs.fixed[:128])}
        if self.native:
            chosen = random_numbers(self.seed, "fixed native").permutation(self.native.labelled())[:128]
            G = to_tensor(self.genuine.images[chosen]).to(self.device)
            signals["accuracy_native"] = accuracy(self.native, G, chosen)
        return {**super().health(networks), **signals}


# --- who the faces show ----------------------------------------------------------------------------------


def native_ids(options: CsriOptions, genuine: FaceSet) -> str:
    """Where the identities of the genuine faces come from: `manifest`, `pseudo` or `none`.

    Raises CharregError when `manifest` is asked for and names fewer than two people.
    """
    people = len({name for name in genuine.identities if name})
    if options.native_ids == "manifest" and people < 2:
        raise CharregError(
            f"{genuine.folder}: {people} identities, wanted at least 2; name people in the index, or set "
            "peers.csri.native_ids to auto"
        )
    if options.native_ids == "auto":
        return "manifest" if people >= 2 else "pseudo"
    return options.native_ids


def pseudo_identities(
    options: CsriOptions, genuine: FaceSet, recogniser: CentreFace, seed: int, device: torch.device
) -> tuple[Labels, int]:
    """k-means clusters of the embeddings of UP(G) in the place of people; the number of clusters k = N/cluster_size.

    Faces of clusters smaller than `smallest_cluster` are UNKNOWN. With several processes all take the first one's
    clusters. Raises CharregError when fewer than two clusters are left.
    """
    k, left = len(genuine) // options.cluster_size, 0
    labels = np.full(len(genuine), UNKNOWN, dtype=np.int64)
    if k >= 2:
        embed = embedder_of(recogniser, device)
        parts = (genuine.images[start : start + CHUNK] for start in range(0, len(genuine), CHUNK))
        enlarged = (to_images(up(to_tensor(part))) for part in parts)
        vectors = np.concatenate([embed_for_matching(embed, images).astype(np.float32) for images in enlarged])
        labels = without_small(k_means(vectors, k, seed, "csri"), options.smallest_cluster)
        left = len(set(labels.tolist()) - {UNKNOWN})
    if left < 2:
        raise CharregError(
            f"{genuine.folder}: {len(genuine)} faces make {k} clusters of which {left} count, wanted at least 2; lower "
            "peers.csri.cluster_size or smallest_cluster, or set peers.csri.native_ids to none"
        )
    return distributed.gather(torch.from_numpy(labels).to(device))[: len(labels)].cpu().numpy(), k


# --- k-means (Lloyd 1982) started by k-means++ (Arthur and Vassilvitskii 2007): SciPy's is quadratic in k, far too
# slow for the thousands of clusters of a full-size face set


def k_means(points: npt.NDArray[Any], k: int, *words: object, rounds: int = 50) -> Labels:
    """The cluster 0..k-1 of each point of [N, E], int64 [N]; a function of the points and the words (seed, ...).

    At most `rounds` rounds. A cluster that loses all its points stays where it was and may end empty.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    if not 1 <= k <= len(points):
        raise CharregError(f"k-means: found k = {k}, wanted 1 to {len(points)}, the number of points")
    centres = first_centres(points, k, *words)
    labels = nearest(points, centres)
    for _ in range(rounds):
        order = np.argsort(labels, kind="stable")
        present, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
        centres[present] = np.add.reduceat(points[order], starts, axis=0) / counts[:, None]
        previous, labels = labels, nearest(points, centres)
        if np.array_equal(previous, labels):
            break
    return labels


def first_centres(points: Points, k: int, *words: object) -> Points:
    """k-means++: every next centre is a point, drawn in proportion to its squared distance to the nearest so far."""
    random = random_numbers(*words, "k-means++")
    lengths = np.square(points).sum(axis=1)
    centres = np.empty((k, points.shape[1]), np.float32)
    distances = np.ones(len(points))
    for number in range(k):
        reached = np.cumsum(distances)
        drawn = np.searchsorted(reached, random.random() * reached[-1], side="right")
        centre = centres[number] = points[min(int(drawn), len(points) - 1)]  # the last, when all distances are zero
        new = np.maximum(lengths - 2 * points @ centre + centre @ centre, 0).astype(np.float64)
        distances = np.minimum(distances, new) if number else new
    return centres


def nearest(points: Points, centres: Points) -> Labels:
    """The nearest centre of every point; of equally near ones the first. Points go a few at a time: k may be large."""
    lengths = np.square(centres).sum(axis=1)
    rows = max(1, CELLS // len(centres))
    return np.concatenate(
        [
            np.argmin(lengths - 2 * points[start : start + rows] @ centres.T, axis=1)
            for start in range(0, len(points), rows)
        ]
    )


def without_small(labels: Labels, smallest: int) -> Labels:
    """The labels with -1 in the place of clusters of fewer than `smallest` points."""
    return np.where(np.bincount(labels)[labels] < smallest, -1, labels)
