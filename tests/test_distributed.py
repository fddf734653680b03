"""Many processes train the same global batches as one.

tests/test_every_training.py shows it in float64 for every training; here are the stages, as users run them.
"""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import torch

from charreg.training import distributed
from training_fixtures import Run, Workshop, free_port

pytestmark = pytest.mark.slow

pytest_plugins = ["training_fixtures"]

DOUBLE = ("double",)
TERM = int(signal.SIGTERM)
EVERY_ROW = {"CHARREG_LOG_EVERY": "1"}


def worker(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun tells a worker."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
        **EVERY_ROW,
    }


def together(
    workshop: Workshop,
    stage: str,
    name: str,
    *last: tuple[Any, ...],
    count: int = 2,
    every: tuple[tuple[Any, ...], ...] = (),
) -> list[Run]:
    """A stage in `count` processes; with plans of the `last` or of `every`."""
    port = free_port()
    runs = [
        workshop.start(stage, name, *every, *(last if rank == count - 1 else ()), env=worker(rank, count, port))
        for rank in range(count)
    ]
    return [run.wait() for run in runs]


def difference(workshop: Workshop, first: str, second: str) -> float:
    """The largest difference of the losses of two runs, relative or absolute, whichever is smaller.

    Read from the resume states, where they have all their digits.
    """
    a, b = (json.loads(workshop.states(name)[-1].read_text())["note"]["curves"] for name in (first, second))
    assert [row.keys() for row in a] == [row.keys() for row in b]
    assert [row["step"] for row in a] == [row["step"] for row in b] == list(range(1, 13))
    return max(abs(x[name] - y[name]) / max(1, abs(x[name])) for x, y in zip(a, b, strict=True) for name in x)


def test_a_training_goes_on_with_another_number_of_processes(bn_workshop: Workshop) -> None:
    """Stopped twice: two, one and four processes share a run."""
    bn_workshop.run("pretrain_cr", "alone", DOUBLE, env=EVERY_ROW)
    stopped = together(bn_workshop, "pretrain_cr", "mixed", ("signal", TERM, 4), every=(DOUBLE,))
    assert [run.code for run in stopped] == [143, 143]  # one was told, both stop
    assert sum("the same command continues" in run.text for run in stopped) == 1
    one = bn_workshop.run("pretrain_cr", "mixed", DOUBLE, ("signal", TERM, 8), env=EVERY_ROW)
    assert "goes on from step 4 of 12" in one.text
    ended = together(bn_workshop, "pretrain_cr", "mixed", count=4, every=(DOUBLE,))
    assert [run.code for run in ended] == [0, 0, 0, 0]
    assert "goes on from step 8 of 12" in ended[0].text
    assert difference(bn_workshop, "alone", "mixed") <= 1e-9


def test_a_loss_that_is_not_finite_in_one_process_stops_all(workshop: Workshop) -> None:
    runs = together(workshop, "pretrain_sr", "nan", ("loss", 6, "l_sr"))
    for run in runs:
        assert (run.code, len(run.errors)) == (1, 1)
        assert "loss l_sr is not finite at step 6" in run.errors[0]
    assert runs[0].files() == {}


def test_processes_with_different_states_refuse_to_mix(workshop: Workshop) -> None:
    workshop.run("pretrain_sr", "shared", ("signal", TERM, 7))
    port = free_port()
    places = enumerate(("shared", "elsewhere"))
    for run in [workshop.start("pretrain_sr", root, env=worker(rank, 2, port)) for rank, root in places]:
        assert run.wait().code == 1
        assert len(run.errors) == 1
        assert "the processes found different resume states" in run.errors[0]


def test_torchrun_trains_in_float32_as_one_process_does(workshop: Workshop) -> None:
    """The launcher itself, once, from the environment variable users set; without batch norm, where rounding grows."""
    out = workshop.folder / "runs" / "torchrun"
    (out / ".dvc").mkdir(parents=True)
    launcher = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"
    environment = {**os.environ, **EVERY_ROW, "DVC_ROOT": str(out), "GLOO_SOCKET_IFNAME": "lo"}
    ended = subprocess.run(
        [sys.executable, *workshop.command("finetune_joint", out)],
        cwd=workshop.folder,
        env={**environment, "OMP_NUM_THREADS": "1", "CHARREG_LAUNCH": launcher},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    workshop.run("finetune_joint", "alone", env=EVERY_ROW)
    assert difference(workshop, "alone", "torchrun") <= 1e-5
    assert '"processes": 2' in (out / "curves/cr/timings.json").read_text()


def test_alone_every_exchange_is_the_identity() -> None:
    x = torch.tensor([1.0, 2.0])
    distributed.average([x])
    assert x.tolist() == [1.0, 2.0]
    assert distributed.gather(x).tolist() == [1.0, 2.0]
    assert (distributed.rank(), distributed.world_size(), distributed.first(3)) == (0, 1, 3)
    assert distributed.anyone(True)
    assert not distributed.anyone(False)
    distributed.wait_for_all()
    distributed.stop()
