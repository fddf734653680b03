"""Can people still be recognised? Rank-k identification and verification with the CentreFace embedding.

Protocol: closed set of the identities with at least two faces. In each trial one random face an identity
is the gallery and all its others are probes; gallery and probes have both gone through the same method. Matching is
by the cosine of embeddings, the face's plus its mirror image's. The trials depend on identities and albums alone, so
every method is measured on the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from charreg.core.embedding import embed_for_matching, embedder_of
from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet
from charreg.core.seeding import random_numbers
from charreg.metrics.bootstrap import Floats, centred_interval, multiplicities
from charreg.metrics.scores import Scores

Indices = npt.NDArray[np.int64]

RANKS = (1, 5, 20)
GATE_TRIALS = 10
GATE_PAIRS = 6000
GATE_RESAMPLES = 200


@dataclass(frozen=True)
class Trial:
    """Face numbers: one gallery face an identity, and the probes with the gallery position of each one's identity."""

    gallery: Indices
    probes: Indices
    wanted: Indices


def make_trials(identities: Sequence[str], albums: Sequence[str], trials: int) -> list[Trial]:
    """Trials 0, 1, ... of a set of faces.

    identities, albums: one a face, empty where unknown. The probes of an identity that has several albums come from
    other albums than its gallery face.
    Raises CharregError when there is nobody to mistake anybody for.
    """
    people = faces_of_people(identities)
    if len(people) < 2:
        raise CharregError(f"identification: found {len(people)} identities with two faces or more, wanted at least 2")
    return [_make_trial(people, albums, seed) for seed in range(trials)]


def faces_of_people(identities: Sequence[str]) -> list[Indices]:
    """The face numbers of every known identity with at least two faces, identities in sorted order."""
    faces: dict[str, list[int]] = {}
    for face, identity in enumerate(identities):
        if identity:
            faces.setdefault(identity, []).append(face)
    return [np.array(faces[identity]) for identity in sorted(faces) if len(faces[identity]) > 1]


def _make_trial(people: list[Indices], albums: Sequence[str], seed: int) -> Trial:
    random = random_numbers("trial", seed)
    gallery, probes, wanted = [], [], []
    for position, faces in enumerate(people):
        chosen = int(random.choice(faces))
        others = [int(face) for face in faces if face != chosen]
        others = [face for face in others if albums[face] != albums[chosen]] or others
        gallery.append(chosen)
        probes += others
        wanted += [position] * len(others)
    return Trial(np.array(gallery), np.array(probes), np.array(wanted))


def probe_ranks(vectors: Floats, trial: Trial) -> Indices:
    """Rank (1: best) of each probe's own identity in the gallery; ties count against it, so that embeddings that are
    all alike recognise nobody."""
    cosines = vectors[trial.probes] @ vectors[trial.gallery].T
    own = cosines[np.arange(len(trial.probes)), trial.wanted]
    return (cosines >= own[:, None] - 1e-9).sum(axis=1)  # type: ignore[no-any-return]


def identify(vectors: Floats, trials: Sequence[Trial], resamples: int, *words: object) -> dict[str, float]:
    """`rank1`, `rank5`, `rank20` in percent (mean of the trials) with `_std` over trials and `_lo`, `_hi`.

    Also `n_identities` and `n_probes` (of a trial, on average). A rank is left out where the gallery is no larger
    than it: everybody would be found. The interval resamples faces: a face is a probe in most trials, and its trials
    are not independent.
    """
    size = len(trials[0].gallery)
    ranks = [probe_ranks(vectors, trial) for trial in trials]
    numbers = {
        "n_identities": float(size),
        "n_probes": float(round(np.mean([len(trial.probes) for trial in trials]))),
    }
    used = np.unique(np.concatenate([trial.probes for trial in trials]))
    counts = multiplicities(len(used), resamples, *words)
    for k in RANKS:
        if k >= size:
            continue
        rates = np.array([100 * np.mean(found <= k) for found in ranks])
        hits, tries = np.zeros(len(used)), np.zeros(len(used))
        for trial, found in zip(trials, ranks, strict=True):
            places = np.searchsorted(used, trial.probes)
            tries[places] += 1
            hits[places] += found <= k
        low, high = centred_interval(float(rates.mean()), 100 * (counts @ hits) / (counts @ tries))
        numbers |= {f"rank{k}": float(rates.mean()), f"rank{k}_std": float(rates.std())}
        numbers |= {f"rank{k}_lo": max(0.0, low), f"rank{k}_hi": min(100.0, high)}
    return numbers


def verification_auc(vectors: Floats, identities: Sequence[str], pairs: int, *words: object) -> float:
    """Area under the ROC curve of the cosine on random pairs, half of one person, half of two.

    vectors: unit vectors [N, E]; the known identities are used. Raises CharregError when one of the halves is empty.
    """
    people = faces_of_people(identities)
    known = np.flatnonzero([bool(identity) for identity in identities])
    names = np.array(identities, dtype=object)
    if not people or len(set(names[known])) < 2:
        raise CharregError("verification: wanted 2 identities, one of them with 2 faces; found fewer")
    random = random_numbers(*words, "verification")
    possible = np.array([len(faces) * (len(faces) - 1) for faces in people], dtype=np.float64)
    same: list[Indices] = []
    different: list[Indices] = []
    for person in random.choice(len(people), pairs // 2, p=possible / possible.sum()):
        same.append(random.choice(people[person], 2, replace=False))
    while len(different) < pairs - pairs // 2:
        drawn = random.choice(known, (pairs, 2))
        different += list(drawn[names[drawn[:, 0]] != names[drawn[:, 1]]])
    different = different[: pairs - pairs // 2]
    scores = [np.einsum("pe,pe->p", *vectors[np.array(half)].swapaxes(0, 1)) for half in (same, different)]
    return area_under_curve(*scores)


def area_under_curve(positive: Floats, negative: Floats) -> float:
    """Chance that a positive score exceeds a negative one; a tie counts half (Mann and Whitney)."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.mean() / (2 * len(ordered)))


def centreface_gate(module: nn.Module, faces: FaceSet, seed: int, device: torch.device) -> dict[str, Any]:
    """How well the recogniser tells people apart on HR faces [N, 64, 64, 3] it was not trained on.

    `rank1` HR against HR in percent with `_std`, `_lo`, `_hi`; `auc` of verification on 6,000 random pairs, with
    `n_pairs`; `n_identities`, `n_probes`, `n_faces`. What cannot be computed is absent, its reason under `absent`.
    Of several crops of one portrait the first counts: matching a picture with itself would flatter.
    """
    rows = faces.index.reset_index(drop=True)
    first = rows[~rows.duplicated(["source", "photo", "identity"])].index.to_numpy()
    identities = [faces.identities[row] for row in first]
    scores = Scores({"n_faces": len(first)})
    try:
        vectors = embed_for_matching(embedder_of(module, device), faces.images[first])
        trials = make_trials(identities, [""] * len(first), GATE_TRIALS)
        found = identify(vectors, trials, GATE_RESAMPLES, seed, "gate")
        scores.numbers |= {name: value for name, value in found.items() if name.startswith(("rank1", "n_"))}
        scores.add("auc", verification_auc(vectors, identities, GATE_PAIRS, seed, "gate"))
        scores.numbers["n_pairs"] = GATE_PAIRS
    except CharregError as error:
        scores.absent = {name: str(error) for name in ("rank1", "auc") if name not in scores.numbers}
    return scores.as_json()
