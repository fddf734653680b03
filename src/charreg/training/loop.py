"""The one training loop: it runs any job, logs, keeps the moving average, stops when told, and resumes.

A run killed at any moment continues from its newest resume state and ends bit-identical to one that was not
(CPU): data order and randomness are functions of (seed, step), everything else is in the state.
"""

import io
import math
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from charreg.core.errors import CharregError
from charreg.core.files import write_bytes
from charreg.core.runtime import runtime
from charreg.training import distributed
from charreg.training.checkpoint import Scratch, optimiser_tensors, restore_optimiser
from charreg.training.job import Job

PARENT = os.getppid()  # noted at import, long before the first step


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


@dataclass(frozen=True)
class Cadence:
    """How often a training writes a row of its curves, measures health, draws a sheet, writes a resume state: steps."""

    log: int
    health: int
    sheet: int
    checkpoint: int

    @classmethod
    def of(cls, iterations: int) -> Self:
        """Shares of the run, where the environment says nothing else (`charreg.core.runtime`)."""
        wanted = runtime()
        return cls(
            wanted.log_every or max(1, iterations // 50),
            wanted.health_every or max(1, iterations // 4),
            wanted.sheet_every or max(1, iterations // 2),
            wanted.checkpoint_every or max(1, min(500, iterations // 8)),
        )


class Training:
    """A job on its way: step count, moving averages, curves."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.cadence = Cadence.of(job.iterations)
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
        if self.done % self.cadence.log == 0 or self.done == job.iterations:
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
        last = self.done == self.job.iterations
        if distributed.rank():
            return
        wants_health = self.done % self.cadence.health == 0 or last
        wants_sheet = self.done % self.cadence.sheet == 0 or last
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
            due = training.done % training.cadence.checkpoint == 0 or training.done == job.iterations
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
