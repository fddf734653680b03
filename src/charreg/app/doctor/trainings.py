"""Every training of a run, built and stepped on made-up faces: whether it starts, its size, its time."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from charreg.app.doctor.finding import Finding, duration
from charreg.core.errors import CharregError
from charreg.core.faces import LANDMARK_COLUMNS, FaceSet, FaceWriter, open_faces
from charreg.core.models import Model
from charreg.core.params import Params
from charreg.core.seeding import random_numbers
from charreg.cr.finetune_joint import VARIANTS, FirstStage
from charreg.cr.pretrain_cr import PretrainCr
from charreg.cr.pretrain_inverse_cr import PretrainInverseCr
from charreg.cr.pretrain_sr import PretrainSr
from charreg.cr.train_centreface import TrainCentreface
from charreg.networks.centreface import CentreFace
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

Make = Callable[["Models"], Job]


class Models(dict[str, Model]):
    """What the trainings so far would export, by training."""

    def __missing__(self, name: str) -> Model:
        raise CharregError(f"wants the model of {name}, which does not start")


@dataclass(frozen=True)
class Measured:
    """One training, measured. Bytes: of its exported model, and of one resume state, at most."""

    name: str
    runs: int
    iterations: int
    batch: int
    model_bytes: int
    state_bytes: int
    step: float | None = None  # s

    @property
    def seconds(self) -> float:
        """All runs, by this machine's one process."""
        return self.runs * self.iterations * (self.step or 0.0)


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


def check_trainings(
    params: Params, folder: Path, device: torch.device, processes: int, timing: bool
) -> Iterator[tuple[Finding, Measured | None]]:
    """Every training of a run in the order of the stages: what was found and, where it starts, its size and time.

    folder: for made-up faces; processes: of one training; timing: make some steps.
    """
    models = Models()
    for name, make in makes(params, folder, device).items():
        try:
            training = Training(make(models))
            measured = measure(name, training, runs_of(name, params), timing)
        except CharregError as error:
            yield Finding("FAULT", name, str(error)), None
            continue
        models[name] = Model(training.exported(), training.job.blueprints, {}, "")
        yield describe(measured, processes), measured


def makes(params: Params, folder: Path, device: torch.device) -> dict[str, Make]:
    """How every training of a run is built from the models of those before it, in the order of the stages."""
    people = max(params.train_centreface.holdout_ids, params.train_matcher.holdout_ids) + 16
    hr, genuine = made_up_faces(folder / "hr", people, hr=True), made_up_faces(folder / "lr", 16, hr=False)
    one = with_seed(_for_made_up_faces(params), params.seeds[0])

    def pretrain_cr(models: Models) -> Job:
        inverse = models["pretrain_inverse_cr"].networks["inverse_regulariser"]
        return PretrainCr(one, hr, genuine, inverse, device)

    def finetune_joint(models: Models, variant: str) -> Job:
        first = FirstStage(
            sr_module=models["pretrain_sr"],
            characteristic=models["pretrain_cr"],
            inverse_cr=models["pretrain_inverse_cr"],
            centreface=models["train_centreface@centreface"],
        )
        return VARIANTS[variant](one, hr, genuine, first, device)

    def train_peer(models: Models, peer: str) -> Job:
        recogniser = models["train_centreface@centreface"].networks["centreface"]
        assert isinstance(recogniser, CentreFace)
        return job_of(peer)(one, PeerInputs(hr, genuine, recogniser), device)

    return {
        "train_centreface@centreface": lambda _: TrainCentreface("centreface", one, hr, device),
        "train_centreface@matcher": lambda _: TrainCentreface("matcher", one, hr, device),
        "pretrain_sr": lambda _: PretrainSr(one, hr, device),
        "pretrain_inverse_cr": lambda _: PretrainInverseCr(one, hr, genuine, device),
        "pretrain_cr": pretrain_cr,
        **{f"finetune_joint@{name}": partial(finetune_joint, variant=name) for name in params.joint_variants},
        **{f"train_peer@{name}": partial(train_peer, peer=name) for name in params.trained_peers},
    }


def _for_made_up_faces(params: Params) -> Params:
    """Nobody made up has more than two portraits, and clusters of such faces mean nothing."""
    peers = dict(params.peers)
    csri = peers.get("csri")
    if csri is not None and (csri.model_extra or {}).get("native_ids") == "pseudo":
        peers["csri"] = csri.model_copy(update={"native_ids": "manifest"})
    return params.model_copy(update={"min_portraits": 1, "peers": peers})


def runs_of(name: str, params: Params) -> int:
    """How often a training is repeated: the recognisers once, the others once a seed."""
    if name.startswith("train_centreface"):
        return 1
    return len(params.peer_seeds if name.startswith("train_peer") and params.peer_seeds else params.seeds)


def describe(training: Measured, processes: int) -> Finding:
    """A training that starts: its length, and its time where it was measured."""
    if training.batch % processes:
        text = f"batch {training.batch}, wanted a multiple of the {processes} processes of CHARREG_LAUNCH"
        return Finding("FAULT", training.name, text)
    times = f" x {training.runs} seeds" if training.runs > 1 else ""
    text = f"{training.iterations:,} steps of batch {training.batch}{times}"
    if training.step is not None:
        text = f"{duration(training.seconds)} ({text} x {training.step:.3g} s)"
    return Finding("ok", training.name, text)


def measure(name: str, training: Training, runs: int, timing: bool) -> Measured:
    """The size of a training and, with `timing`, the time of a step. Raises CharregError where the run would."""
    job = training.job
    step = seconds_of_a_step(training) if timing else None
    exported = _bytes(training.exported().values())
    state = 3 * _bytes(job.networks.values()) + _bytes(training.averages.values())  # Adam's two means, as large each
    return Measured(name, runs, job.iterations, job.schedule.batch, exported, state, step)


def _bytes(networks: Iterable[nn.Module]) -> int:
    return sum(each.nbytes for network in networks for each in network.state_dict().values())


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
