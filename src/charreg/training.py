"""The one training loop: it runs any job, logs, keeps the moving average, stops when told, and resumes.

A run killed at any moment continues from its newest resume state and ends bit-identical to one that was not
(CPU): data order and randomness are functions of (seed, step), everything else is in the state.
"""

import contextlib
import io
import math
import os
import resource
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from charreg import distributed
from charreg.checkpoint import Scratch, optimiser_tensors, restore_optimiser
from charreg.errors import CharregError
from charreg.files import output_folder, write_bytes, write_json
from charreg.machine import machine, versions
from charreg.models import Blueprint, save_model
from charreg.params import Schedule
from charreg.sampling import channels_last, torch_seed

Losses = dict[str, Tensor]

PARENT = os.getppid()  # noted at import, long before the first step


class Job(ABC):
    """One training: its networks, its optimisers and one step. No loop, no files, no logging."""

    name: str  # of curves and timings
    label: str = ""  # of its row in the report, where it differs from the usual one: a fallback has to be visible
    schedule: Schedule
    iterations: int
    averaged: tuple[str, ...] = ()  # networks whose moving average is measured and exported
    exports: tuple[str, ...]  # networks the model folder holds

    def __init__(self, seed: int, schedule: Schedule, iterations: int, device: torch.device) -> None:
        self.seed, self.schedule, self.iterations, self.device = seed, schedule, iterations, device
        if schedule.batch % distributed.world_size():
            raise CharregError(
                f"{self.name}: batch {schedule.batch}, wanted a multiple of the {distributed.world_size()} processes"
            )
        self.networks: dict[str, nn.Module] = {}
        self.blueprints: dict[str, Blueprint] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.rates: dict[str, float] = {}

    def add_network(self, name: str, blueprint: Blueprint, start: nn.Module | None = None) -> nn.Module:
        """Build a network from a seed of its own, or go on from `start`; it trains with the job."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(self.seed, self.name, name))
            network = blueprint.build()
        if start is not None:
            network.load_state_dict(start.state_dict())
        self.networks[name] = channels_last(network).to(self.device).train()
        self.blueprints[name] = blueprint
        return self.networks[name]

    def add_adam(self, name: str, networks: list[nn.Module], rate: float, betas: tuple[float, float]) -> None:
        parameters = [parameter for network in networks for parameter in network.parameters()]
        self.optimisers[name] = torch.optim.Adam(parameters, lr=rate, betas=betas, fused=True)
        self.rates[name] = rate

    def descend(self, name: str, loss: Tensor) -> None:
        """One step of the optimiser `name` down the gradient of `loss` over the global batch."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        distributed.average_gradients(parameters)
        if self.schedule.clip_norm:
            nn.utils.clip_grad_norm_(parameters, self.schedule.clip_norm)
        optimiser.step()

    def rate(self, step: int) -> float:
        """Factor on every learning rate at a step."""
        if self.schedule.lr_decay == "none":
            return 1.0
        late = max(0.0, (step / self.iterations - 0.7) / 0.3)
        return 0.1 + 0.9 * (1 + math.cos(math.pi * late)) / 2

    def rate_of(self, optimiser: str, step: int) -> float:
        """Learning rate of one optimiser at a step."""
        return self.rates[optimiser] * self.rate(step)

    @abstractmethod
    def step(self, step: int) -> Losses:
        """Train on the global batch of a step; the losses by name (scalars)."""

    @abstractmethod
    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """Signals measured on fixed faces with the networks as they would be exported."""

    @abstractmethod
    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """A picture of fixed samples, uint8 [h, w, 3]."""


class Interruption:
    """Notices SIGTERM, SIGINT and the death of the parent (a killed `dvc repro`), and lets the step end first."""

    def __init__(self) -> None:
        self.code = 0
        self._previous: dict[int, Any] = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.code = 128 + number

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def wanted(self) -> bool:
        if not self.code and os.getppid() != PARENT:
            self.code = 128 + signal.SIGTERM
        return distributed.anyone(bool(self.code))


class Training:
    """A job on its way: step count, moving averages, curves."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.done = 0
        self.seconds = 0.0
        self.curves: list[dict[str, float]] = []
        self.signals: list[dict[str, float]] = []
        self.sums: dict[str, float] = {}  # of the losses since the last row of the curves
        self.summed = 0
        self.sheets: dict[str, npt.NDArray[np.uint8]] = {}
        decay = job.schedule.ema
        self.averages = {
            name: AveragedModel(job.networks[name], multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
            for name in (job.averaged if decay else ())
        }

    def measured(self) -> dict[str, nn.Module]:
        """All networks, the moving averages in place of those that have one."""
        return {**self.job.networks, **{name: average.module for name, average in self.averages.items()}}

    def exported(self) -> dict[str, nn.Module]:
        """The networks of the model folder, in evaluation mode."""
        measured = self.measured()
        return {name: measured[name].eval() for name in self.job.exports}

    def tensors(self) -> dict[str, Tensor]:
        state = {
            f"{kind}.{name}/{key}": value
            for kind, networks in (("network", self.job.networks), ("average", self.averages))
            for name, network in networks.items()
            for key, value in network.state_dict().items()
        }
        for name, optimiser in self.job.optimisers.items():
            state |= optimiser_tensors(f"optimiser.{name}", optimiser)
        return state

    def note(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "curves": self.curves,
            "signals": self.signals,
            "sums": self.sums,
            "summed": self.summed,
        }

    def restore(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        for kind, networks in (("network", self.job.networks), ("average", self.averages)):
            for name, network in networks.items():
                prefix = f"{kind}.{name}/"
                mine = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
                network.load_state_dict(mine)
        for name, optimiser in self.job.optimisers.items():
            restore_optimiser(f"optimiser.{name}", optimiser, tensors)
        self.done = int(note["step"])
        self.seconds = float(note["seconds"])
        self.curves, self.signals = list(note["curves"]), list(note["signals"])
        self.sums, self.summed = dict(note["sums"]), int(note["summed"])

    def advance(self) -> None:
        """One step, its losses checked and noted."""
        job, step = self.job, self.done
        for name, optimiser in job.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = job.rate_of(name, step)
        losses = {name: value.detach() for name, value in job.step(step).items()}
        values = torch.stack(list(losses.values())).double()
        distributed.average([values])
        numbers = dict(zip(losses, values.tolist(), strict=True))
        wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
        if wrong:
            raise CharregError(
                f"{job.name}: loss {', '.join(wrong)} is not finite at step {step}; nothing is exported, "
                "lower the learning rate or look at the data"
            )
        for name, average in self.averages.items():
            average.update_parameters(job.networks[name])
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.summed += 1
        self.done += 1
        if self.done % job.schedule.log_every == 0 or self.done == job.iterations:
            row = {name: total / self.summed for name, total in self.sums.items()}
            self.curves.append({"step": self.done, **row})
            self.sums, self.summed = {}, 0

    def check_weights(self) -> None:
        """Refuse weights that are not finite: the update after a finite loss can still break them."""
        for name, network in (*self.job.networks.items(), *self.averages.items()):
            if not all(bool(parameter.isfinite().all()) for parameter in network.parameters()):
                raise CharregError(
                    f"{self.job.name}: weights of {name} are not finite after step {self.done}; nothing is exported, "
                    "lower the learning rate or look at the data"
                )

    def look(self) -> None:
        """Measure health signals and draw the sample sheet when they are due; only the first process does."""
        schedule, last = self.job.schedule, self.done == self.job.iterations
        if distributed.rank():
            return
        wants_health = self.done % schedule.health_every == 0 or last
        wants_sheet = self.done % schedule.sheet_every == 0 or last
        if not (wants_health or wants_sheet):
            return
        networks = self.measured()
        modes = {name: network.training for name, network in networks.items()}
        for network in networks.values():
            network.eval()
        with torch.no_grad():
            if wants_health:
                signals = self.job.health(networks)
                self.signals.append({"step": self.done, **{k: v for k, v in signals.items() if math.isfinite(v)}})
            if wants_sheet:
                self.sheets[f"sheet-{self.done:07d}.png"] = self.job.sheet(networks)
        for name, network in networks.items():
            network.train(modes[name])


def train(job: Job, scratch: Scratch, stop_after: int | None = None) -> Training:
    """Run a job to its end, from its newest resume state if there is one.

    stop_after: stop as if by SIGTERM once this many steps are done (for tests and measurements).
    Raises SystemExit(143 or 130) when interrupted, after the state is written; CharregError when a loss is not
    finite or a state cannot be written.
    """
    training = Training(job)
    state = scratch.newest()
    if state is not None:
        training.restore(*state)
    if distributed.anyone(training.done != distributed.first(training.done)):
        raise CharregError(
            f"{job.name}: the processes found different resume states in {scratch.folder}; "
            "wanted a folder that all of them share (DVC_ROOT)"
        )
    if state is not None and distributed.rank() == 0:
        sys.stderr.write(f"{job.name}: goes on from step {training.done} of {job.iterations}\n")
    first = distributed.rank() == 0
    bar = tqdm(
        total=job.iterations,
        initial=training.done,
        desc=job.name,
        unit="step",
        disable=not first,
        mininterval=2.0,
    )
    with Interruption() as interruption, bar:
        clock = time.perf_counter() - training.seconds
        while training.done < job.iterations:
            training.advance()
            training.look()
            training.seconds = time.perf_counter() - clock
            bar.update()
            if training.done == stop_after:
                interruption.code = 128 + signal.SIGTERM
            wanted = interruption.wanted()
            due = training.done % job.schedule.checkpoint_every == 0 or training.done == job.iterations
            if due or wanted:
                training.check_weights()
                if first:
                    _keep_sheets(training, scratch)
                    scratch.save(training.done, training.tensors(), training.note())
            if wanted:
                distributed.wait_for_all()
                if first:
                    bar.write(f"{job.name}: stopped at step {training.done}; the same command continues", sys.stderr)
                raise SystemExit(interruption.code or 128 + signal.SIGTERM)
    return training


def _keep_sheets(training: Training, scratch: Scratch) -> None:
    for name, picture in training.sheets.items():
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "PNG")
        try:
            write_bytes(scratch.folder / name, content.getvalue())
        except OSError as error:
            raise CharregError(
                f"{scratch.folder / name}: {error.strerror or error}; the training stops, its earlier state is intact"
            ) from None
    training.sheets.clear()


@dataclass(frozen=True)
class Assignment:
    """A job, where its resume states lie, and what its model.json says of its inputs."""

    job: Job
    scratch: Scratch
    info: Mapping[str, Any]


def run_job(
    job: Job, scratch: Scratch, info: Mapping[str, Any], out: Path, curves: Path, timings: Path
) -> Mapping[str, nn.Module]:
    """Train one job and write its outputs; see `run_jobs`."""
    return run_jobs([Assignment(job, scratch, info)], out, curves, timings)


def run_jobs(assignments: Iterable[Assignment], out: Path, curves: Path, timings: Path) -> Mapping[str, nn.Module]:
    """Train the same job for one seed after the other, then write: the model folder, the curves folder, the timings.

    The first seed's outputs are the folders themselves; those of a further seed k lie in their `seed-<k>`.
    Returns the exported networks of the first.
    """
    with contextlib.ExitStack() as locks:
        finished: list[tuple[Assignment, Training]] = []
        for one in assignments:
            if distributed.rank() == 0:
                locks.enter_context(one.scratch.hold())
            distributed.wait_for_all()
            finished.append((one, train(one.job, one.scratch)))
        if distributed.rank() == 0:
            try:
                _export(finished, out, curves, timings)
            except OSError as error:
                raise CharregError(
                    f"{error.filename or out}: {error.strerror or error}; the training is kept, "
                    "mend this and the same command exports it"
                ) from None
        distributed.wait_for_all()
    return finished[0][1].exported()


def _export(finished: list[tuple[Assignment, Training]], out: Path, curves: Path, timings: Path) -> None:
    with output_folder(out) as models, output_folder(curves) as tables:
        for number, (one, training) in enumerate(finished):
            job = one.job
            note = {"job": job.name, "seed": job.seed, "iterations": job.iterations, **one.info}
            note |= {"label": job.label} if job.label else {}
            model, table = ((folder / f"seed-{job.seed}" if number else folder) for folder in (models, tables))
            for folder in (model, table):
                folder.mkdir(exist_ok=True)
            save_model(model, training.exported(), job.blueprints, note)
            write_table(table / "curves.tsv", training.curves)
            write_table(table / "health.tsv", training.signals)
            for sheet in one.scratch.folder.glob("sheet-*.png"):
                (table / sheet.name).write_bytes(sheet.read_bytes())
    first, *others = (_timings(training) for _, training in finished)
    if others:
        first["other_seeds"] = {str(other["seed"]): other for other in others}
    write_json(timings, first)


def write_table(path: Path, rows: list[dict[str, float]]) -> None:
    """Rows as tab-separated values; the columns are those of all rows, in order of appearance."""
    columns = list(dict.fromkeys(key for row in rows for key in row)) or ["step"]
    lines = ["\t".join(columns)]
    lines += ["\t".join(_cell(row.get(key, "")) for key in columns) for row in rows]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _cell(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _timings(training: Training) -> dict[str, Any]:
    """What differs from run to run: seconds, memory, machine and versions."""
    job = training.job
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "job": job.name,
        "seed": job.seed,
        "seconds": round(training.seconds, 1),
        "iterations": job.iterations,
        "batch": job.schedule.batch,
        "peak_memory_mib": round(memory),
        "processes": distributed.world_size(),
        "parameters": {
            name: sum(parameter.numel() for parameter in network.parameters()) for name, network in job.networks.items()
        },
        "versions": versions(),
        "machine": {**machine(), "device": str(job.device)},
    }


@contextlib.contextmanager
def without_gradients(*networks: nn.Module) -> Iterator[None]:
    """Freeze parameters for a block: gradients flow through the networks but are not spent on them."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)
