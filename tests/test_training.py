"""The training loop itself: among other things, a training whose parent dies ends by itself."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from charreg.core.errors import CharregError
from charreg.core.models import Blueprint
from charreg.core.params import Schedule
from charreg.cr.regulariser import Regulariser
from charreg.training import loop as training_module
from charreg.training.checkpoint import Scratch
from charreg.training.export import write_table
from charreg.training.job import Job, Losses, without_gradients
from charreg.training.loop import Training, train
from training_fixtures import Workshop, cadence, wait_for

pytest_plugins = ["training_fixtures"]


class Toy(Job):
    """A regulariser that learns to return zeros: 20 ms a training."""

    name = "toy"
    averaged = ("regulariser",)
    exports = ("regulariser",)

    def __init__(self, **changes: Any) -> None:
        options = {
            "iterations": 12,
            "batch": 2,
            "lr": 0.01,
            "lr_decay": "cosine",
            "ema": 0.5,
            "clip_norm": 0.0,
        }
        schedule = Schedule(**{**options, **changes})
        super().__init__(0, schedule, schedule.iterations, torch.device("cpu"))
        blueprint = Blueprint.of(Regulariser, {"width": 2, "blocks": 1, "norm": "bn", "output": "residual"})
        self.network = self.add_network("regulariser", blueprint)
        self.add_adam("adam", [self.network], schedule.lr, (0.9, 0.999))
        self.rates_seen: list[float] = []

    def step(self, step: int) -> Losses:
        self.rates_seen.append(self.optimisers["adam"].param_groups[0]["lr"])
        x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        loss = self.network(x).square().mean()
        self.descend("adam", loss)
        return {"loss": loss, "step_number": torch.tensor(float(step))}

    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        assert not any(network.training for network in networks.values())
        return {"size": networks["regulariser"](torch.ones(1, 3, 16, 16)).mean().item(), "unknown": math.inf}

    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        return np.full((4, 4, 3), 7, np.uint8)


@pytest.fixture(autouse=True)
def every_five_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cadence(5).items():
        monkeypatch.setenv(name, value)


def tensors_of(training: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in training.tensors().items()}


def scratch_in(folder: Path) -> Scratch:
    scratch = Scratch("toy", {}, folder)
    scratch.folder.mkdir(parents=True, exist_ok=True)
    return scratch


def test_a_stop_at_every_step_changes_nothing(tmp_path: Path) -> None:
    """Weights, moving average, its count, moments, curves, signals and sheets: all survive, wherever it stops."""
    whole = train(Toy(), scratch_in(tmp_path / "whole"))
    wanted = tensors_of(whole)
    kinds = {name.partition(".")[0] for name in wanted}
    assert kinds == {"network", "average", "optimiser"}
    assert "average.regulariser/n_averaged" in wanted
    rates: list[float] = []
    for stop in range(1, 12):
        with pytest.raises(SystemExit) as stopped:
            train(job := Toy(), scratch_in(tmp_path / "parts"), stop_after=stop)
        assert stopped.value.code == 143
        rates += job.rates_seen
    last = train(job := Toy(), scratch_in(tmp_path / "parts"))
    found = tensors_of(last)
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
    assert (last.curves, last.signals) == (whole.curves, whole.signals)
    assert rates + job.rates_seen == whole.job.rates_seen  # type: ignore[attr-defined]
    sheets = [
        sorted(path.name for path in scratch_in(tmp_path / run).folder.glob("*.png")) for run in ("whole", "parts")
    ]
    assert sheets[0] == sheets[1] == [f"sheet-{step:07d}.png" for step in (5, 10, 12)]


def test_the_curves_are_means_and_unknown_signals_are_absent(tmp_path: Path) -> None:
    done = train(Toy(), scratch_in(tmp_path))
    assert [row["step_number"] for row in done.curves] == [2.0, 7.0, 10.5]  # steps 0-4, 5-9, 10-11
    assert [row.keys() for row in done.signals] == [{"step", "size"}] * 3


def test_what_is_exported_is_the_moving_average(tmp_path: Path) -> None:
    done = train(job := Toy(), scratch_in(tmp_path / "ema"))
    weight = next(job.network.parameters())
    assert not torch.equal(next(done.exported()["regulariser"].parameters()), weight)
    plain = train(job := Toy(ema=0.0), scratch_in(tmp_path / "plain"))
    assert plain.exported()["regulariser"] is job.network
    assert torch.equal(next(job.network.parameters()), weight)  # averaging watches, it does not steer


def test_the_rate_falls_to_a_tenth_over_the_last_third() -> None:
    job = Toy(iterations=100)
    assert [job.rate(step) for step in (0, 70)] == [1.0, 1.0]
    assert job.rate(85) == pytest.approx(0.55)  # half-way: 0.1 + 0.9 / 2
    assert job.rate(77.5) == pytest.approx(0.1 + 0.9 * (1 + 0.5**0.5) / 2)  # type: ignore[arg-type]  # a quarter
    assert job.rate(100) == pytest.approx(0.1)
    assert Toy(lr_decay="none").rate(11) == 1.0


def test_a_gradient_is_clipped_over_all_its_parameters() -> None:
    job = Toy(clip_norm=1e-3)
    x = torch.ones(2, 3, 16, 16)
    job.descend("adam", 1e6 * job.network(x).square().mean())
    norms = [parameter.grad.norm() for parameter in job.network.parameters() if parameter.grad is not None]
    assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("when", "value"), [(0, math.nan), (11, math.inf)])
def test_a_loss_that_is_not_finite_stops(tmp_path: Path, when: int, value: float) -> None:
    class Bad(Toy):
        def step(self, step: int) -> Losses:
            losses = super().step(step)
            return {**losses, "l_bad": torch.tensor(value if step == when else 0.0)}

    with pytest.raises(CharregError, match=rf"toy: loss l_bad is not finite at step {when}; nothing is exported"):
        train(Bad(), scratch_in(tmp_path))


def test_a_sheet_that_cannot_be_written_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = training_module.write_bytes

    def full(path: Path, content: bytes) -> None:
        if path.name == "sheet-0000010.png":
            raise OSError(28, "No space left on device")
        write(path, content)

    monkeypatch.setattr(training_module, "write_bytes", full)
    with pytest.raises(CharregError, match=r"sheet-0000010.png: No space left on device; the training stops"):
        train(Toy(), scratch_in(tmp_path))
    state = scratch_in(tmp_path).newest()
    assert state is not None
    assert state[1]["step"] == 5


def test_the_signal_handlers_are_given_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(SystemExit):
        train(Toy(), scratch_in(tmp_path), stop_after=3)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_table_keeps_whole_numbers_whole(tmp_path: Path) -> None:
    write_table(tmp_path / "a.tsv", [{"step": 1234567, "a": 1 / 3}, {"step": 1234568, "b": 1e-9}])
    assert (tmp_path / "a.tsv").read_text() == "step\ta\tb\n1234567\t0.333333\t\n1234568\t\t1e-09\n"
    write_table(tmp_path / "b.tsv", [])
    assert (tmp_path / "b.tsv").read_text() == "step\n"


def test_frozen_networks_pass_gradients_on() -> None:
    network, x = nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
    with without_gradients(network):
        network(x).sum().backward()
    assert x.grad is not None
    assert network.weight.grad is None
    assert network.weight.requires_grad


PARENT = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for init to notice does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_whose_parent_dies_ends_by_itself(workshop: Workshop, number: int) -> None:
    """As `dvc repro` starts a stage: no shell between. The script itself, not a fork."""
    workshop.set_params({"pretrain_sr.iterations": 100_000})
    out = workshop.folder / "runs" / "orphan"
    (out / ".dvc").mkdir(parents=True)
    command = [sys.executable, "-c", PARENT, sys.executable, *workshop.command("pretrain_sr", out)]
    environment = {**os.environ, "DVC_ROOT": str(out), "OMP_NUM_THREADS": "1"}
    with open(out / "log", "w") as log:
        parent = subprocess.Popen(command, cwd=workshop.folder, env=environment, stderr=log)
    wait_for(lambda: workshop.states("orphan"), 120)
    (owner,) = out.glob(".dvc/tmp/charreg/*/*/owner")
    pid = int(owner.read_text())
    assert alive(pid)
    assert pid != parent.pid
    parent.send_signal(number)
    parent.wait()
    clock = time.monotonic()
    wait_for(lambda: not alive(pid), 5)
    print(f"ended {time.monotonic() - clock:.2f} s after its parent")
    text = (out / "log").read_text()
    stopped_at = int(text.rpartition("stopped at step ")[2].partition(";")[0])
    assert workshop.states("orphan")[-1].stem == f"state-{stopped_at:09d}"
    assert not list((out / "models").iterdir())
