"""Every training of a run, built and stepped on made-up faces: whether it starts, its size, its time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charreg.core.faces import LANDMARK_COLUMNS, FaceSet, FaceWriter, open_faces
from charreg.core.models import Blueprint, Model
from charreg.core.params import Params, PeerSection
from charreg.core.seeding import random_numbers
from charreg.cr.finetune_joint import VARIANTS, FirstStage
from charreg.cr.pretrain_cr import PretrainCr
from charreg.cr.pretrain_inverse_cr import PretrainInverseCr
from charreg.cr.pretrain_sr import PretrainSr
from charreg.cr.regulariser import Regulariser
from charreg.cr.train_centreface import TrainCentreface
from charreg.networks.centreface import CentreFace
from charreg.networks.discriminators import Discriminator
from charreg.networks.super_resolver import SuperResolver
from charreg.peers.base import PeerInputs, job_of
from charreg.training.job import Job
from charreg.training.loop import Training
from charreg.training.stage import with_seed

STEPS = 20  # measured, spread over the run: a training may have phases of different cost
WARM_UP = 2  # before them, one near each end
LEAST = 3  # of the steps, however slow they are
PATIENCE = 30.0  # s a training may take to measure
STILL = 1e-12  # learning rate of measured steps: made-up faces must not make weights infinite
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Plan:
    """A training to come: how often it is repeated (once a seed), and how to build it."""

    name: str
    runs: int
    make: Callable[[], Job]


@dataclass(frozen=True)
class Measured:
    """One training, measured. Bytes: of its exported model, and of one resume state, at most."""

    name: str
    runs: int
    iterations: int
    batch: int
    model_bytes: int
    state_bytes: int
    seconds: float | None = None  # of a step


def made_up_faces(folder: Path, people: int, hr: bool) -> FaceSet:
    """A FaceSet of random pixels, two faces of each person, with landmarks."""
    folder.mkdir()
    random, side = random_numbers("made-up faces"), 64 if hr else 16
    with FaceWriter(folder, side, 16 if hr else None) as writer:
        writer.notes = {"domain": "artificial" if hr else "genuine", "role": "train"}
        for number in range(2 * people):
            row: dict[str, Any] = {"source": "made-up", "photo": str(number), "identity": f"made-up {number // 2}"}
            row |= dict.fromkeys(LANDMARK_COLUMNS, side / 2)
            image, small = (random.integers(0, 256, (s, s, 3), dtype=np.uint8) for s in (side, 16))
            writer.add(image, row, small if hr else None)
    return open_faces(folder)


def plans(params: Params, folder: Path, device: torch.device) -> Iterator[Plan]:
    """Every training of a run in the order of the stages."""
    people = max(params.train_centreface.holdout_ids, params.train_matcher.holdout_ids) + 16
    hr, genuine = made_up_faces(folder / "hr", people, hr=True), made_up_faces(folder / "lr", 16, hr=False)
    first, seeds = first_stage(params), len(params.seeds)
    one = with_seed(_without_files(params), params.seeds[0])
    inverse = first.inverse_cr.networks["inverse_regulariser"]
    recogniser = first.centreface.networks["centreface"]
    assert isinstance(recogniser, CentreFace)
    yield Plan("train_centreface@centreface", 1, lambda: TrainCentreface("centreface", one, hr, device))
    yield Plan("train_centreface@matcher", 1, lambda: TrainCentreface("matcher", one, hr, device))
    yield Plan("pretrain_sr", seeds, lambda: PretrainSr(one, hr, device))
    yield Plan("pretrain_inverse_cr", seeds, lambda: PretrainInverseCr(one, hr, genuine, device))
    yield Plan("pretrain_cr", seeds, lambda: PretrainCr(one, hr, genuine, inverse, device))
    for variant in params.joint_variants:
        yield Plan(
            f"finetune_joint@{variant}",
            seeds,
            lambda variant=variant: VARIANTS[variant](one, hr, genuine, first, device),  # type: ignore[misc]
        )
    for name in params.trained_peers:
        yield Plan(
            f"train_peer@{name}",
            len(params.peer_seeds) or seeds,
            lambda name=name: job_of(name)(one, PeerInputs(hr, genuine, recogniser), device),  # type: ignore[misc]
        )


def _without_files(params: Params) -> Params:
    """Clusters of made-up faces mean nothing, and a missing VGG is another check's to tell."""
    peers = {name: section.model_dump() for name, section in params.peers.items()}
    if peers.get("csri", {}).get("native_ids", "none") != "none":
        peers["csri"] |= {"native_ids": "manifest", "exclude_identities": []}
    if not Path(peers.get("srgan", {}).get("vgg", "")).is_file() and "srgan" in peers:
        peers["srgan"]["vgg"] = ""
    changed = {name: PeerSection.model_validate(section) for name, section in peers.items()}
    return params.model_copy(update={"min_portraits": 1, "peers": changed})


def first_stage(params: Params) -> FirstStage:
    """The models stage 2 starts from, untrained."""
    regulariser = Blueprint.of(Regulariser, params.regulariser.model_dump(mode="json"))
    judge = params.discriminator.model_dump(mode="json")
    return FirstStage(
        sr_module=_fresh(
            super_resolver=Blueprint.of(SuperResolver, params.super_resolver.model_dump(mode="json")),
            image_discriminator=Blueprint.of(Discriminator, {"size": 64, **judge}),
        ),
        characteristic=_fresh(
            regulariser=regulariser, discriminator=Blueprint.of(Discriminator, {"size": 16, **judge})
        ),
        inverse_cr=_fresh(inverse_regulariser=regulariser),
        centreface=_fresh(centreface=Blueprint.of(CentreFace, params.centreface.model_dump(mode="json"))),
    )


def _fresh(**blueprints: Blueprint) -> Model:
    return Model({name: each.build().eval() for name, each in blueprints.items()}, blueprints, {}, "")


def measure(plan: Plan, timing: bool) -> Measured:
    """Build a training and, with `timing`, make some steps of it. Raises CharregError where the run would."""
    job = plan.make()
    training = Training(job)
    seconds = seconds_of_a_step(training) if timing else None
    tensors = sum(each.nbytes for name, each in training.tensors().items() if name.startswith(("network", "average")))
    trained = sum(
        parameter.nbytes
        for optimiser in job.optimisers.values()
        for group in optimiser.param_groups
        for parameter in group["params"]
    )
    exported = sum(each.nbytes for network in training.exported().values() for each in network.state_dict().values())
    return Measured(plan.name, plan.runs, job.iterations, job.schedule.batch, exported, tensors + 2 * trained, seconds)


def seconds_of_a_step(training: Training) -> float:
    """Mean over STEPS steps spread evenly over the run, fewer where they are slow; weights stay as they are."""
    job = training.job
    job.rates = dict.fromkeys(job.rates, STILL)
    places = [0.0, 0.999, *((0.5 + number * GOLDEN) % 1 for number in range(STEPS))]
    times: list[float] = []
    begin = time.perf_counter()
    for place in places:
        training.done = int(place * job.iterations)
        start = time.perf_counter()
        training.advance()
        times.append(time.perf_counter() - start)
        if len(times) >= WARM_UP + LEAST and time.perf_counter() - begin > PATIENCE:
            break
    return float(np.mean(times[WARM_UP:]))
