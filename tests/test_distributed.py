"""Many processes train the same global batches as one: every loss of every job agrees over 20 steps.

To 1e-9 in float64, which shows that both compute the same thing; to 1e-5 in float32, as users run it, without batch
norm. With batch norm over a toy batch of 4, rounding alone grows (Adam, kinks, small variances) beyond 1e-5 after about
ten steps, so there float64 is the proof and the first steps of float32 are held to 1e-5.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from charreg.training import distributed
from charreg.training.batches import Stream, my_share
from training_fixtures import JOBS, PEER_STAGES, SHORT, VARIANT_STAGES, Run, Workshop, section_of

pytest_plugins = ["training_fixtures"]

TOLERANCE = 1e-5  # of a loss, relative or absolute
DOUBLE = ("double",)
CURVES = {f"{job}.{key}": value for job in JOBS for key, value in {"iterations": 20, "log_every": 1}.items()}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def together(
    workshop: Workshop,
    stage: str,
    name: str,
    *last: tuple[Any, ...],
    count: int = 2,
    every: tuple[tuple[Any, ...], ...] = (),
) -> list[Run]:
    """A stage in `count` processes that see what torchrun tells its workers; with plans of the `last` or of `every`."""
    port = str(free_port())
    runs = []
    for rank in range(count):
        env = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(count),
            "TORCHELASTIC_RUN_ID": "test",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "GLOO_SOCKET_IFNAME": "lo",
        }
        runs.append(workshop.start(stage, name, *every, *(last if rank == count - 1 else ()), env=env))
    return [run.wait() for run in runs]


def difference(workshop: Workshop, first: str, second: str, steps: int = 20) -> float:
    """The largest difference of the losses of two runs, relative or absolute, whichever is smaller.

    Read from the resume states, where they have all their digits.
    """
    a, b = (json.loads(workshop.states(name)[-1].read_text())["note"]["curves"] for name in (first, second))
    assert [row.keys() for row in a] == [row.keys() for row in b]
    assert [row["step"] for row in a] == [row["step"] for row in b] == list(range(1, len(a) + 1))
    return max(
        abs(x[name] - y[name]) / max(1, abs(x[name])) for x, y in zip(a[:steps], b[:steps], strict=True) for name in x
    )


def train_both_ways(
    workshop: Workshop, stage: str, *every: tuple[Any, ...], params: Mapping[str, Any] = CURVES
) -> tuple[str, str]:
    """The same training by one process and by two; the names of both runs."""
    names = (f"{stage}-alone-{len(every)}", f"{stage}-pair-{len(every)}")
    workshop.set_params(params)
    try:
        alone = workshop.run(stage, names[0], *every)
        pair = together(workshop, stage, names[1], every=every)
    finally:
        workshop.set_params({})
    assert [run.code for run in (alone, *pair)] == [0, 0, 0], alone.text + pair[0].text + pair[1].text
    return names


@pytest.mark.parametrize("stage", JOBS)
def test_two_processes_train_as_one_with_batch_norm(bn_workshop: Workshop, stage: str) -> None:
    found = difference(bn_workshop, *train_both_ways(bn_workshop, stage, DOUBLE))
    print(f"{stage}, float64: largest difference {found:.2g}")
    assert found <= 1e-9


@pytest.mark.parametrize("stage", [*PEER_STAGES, *VARIANT_STAGES])
def test_two_processes_train_a_compared_system_as_one(bn_workshop: Workshop, stage: str) -> None:
    """Over 6 steps, of which the last 3 are in the last phase of a system that has phases."""
    params = {
        f"{section_of(stage)}.{key}": value for key, value in {**SHORT, "log_every": 1, "health_every": 6}.items()
    }
    alone, pair = train_both_ways(bn_workshop, stage, DOUBLE, params=params)
    found = difference(bn_workshop, alone, pair)
    print(f"{stage}, float64: largest difference {found:.2g}")
    assert found <= 1e-9


def test_float32_with_batch_norm_agrees_until_rounding_has_grown(bn_workshop: Workshop) -> None:
    assert difference(bn_workshop, *train_both_ways(bn_workshop, "pretrain_cr"), steps=5) <= TOLERANCE


@pytest.mark.parametrize("stage", ["train_centreface", "pretrain_sr", "finetune_joint"])
def test_two_processes_train_as_one_in_float32(workshop: Workshop, stage: str) -> None:
    found = difference(workshop, *train_both_ways(workshop, stage))
    print(f"{stage}, float32: largest difference {found:.2g}")
    assert found <= TOLERANCE


def test_the_comparison_notices_another_batch(workshop: Workshop) -> None:
    for seed in (0, 1):
        workshop.set_params({**CURVES, "seeds": [seed]})
        workshop.run("pretrain_sr", f"seed{seed}")
    assert difference(workshop, "seed0", "seed1") > 100 * TOLERANCE


def test_a_training_goes_on_with_another_number_of_processes(bn_workshop: Workshop) -> None:
    bn_workshop.set_params(CURVES)
    try:
        bn_workshop.run("pretrain_cr", "alone", DOUBLE)
        stop = ("signal", int(signal.SIGTERM), 7)
        stopped = together(bn_workshop, "pretrain_cr", "mixed", stop, every=(DOUBLE,))
        assert [run.code for run in stopped] == [143, 143]  # one was told, both stop
        assert sum("the same command continues" in run.text for run in stopped) == 1
        one = bn_workshop.run("pretrain_cr", "mixed", DOUBLE, ("signal", int(signal.SIGTERM), 13))
        assert "goes on from step 7 of 20" in one.text
        ended = together(bn_workshop, "pretrain_cr", "mixed", count=4, every=(DOUBLE,))
    finally:
        bn_workshop.set_params({})
    assert [run.code for run in ended] == [0, 0, 0, 0]
    assert "goes on from step 13 of 20" in ended[0].text
    assert difference(bn_workshop, "alone", "mixed") <= 1e-9


def test_a_batch_that_cannot_be_shared_is_refused_in_one_line(workshop: Workshop) -> None:
    workshop.set_params({"pretrain_sr.batch": 5})
    for run in together(workshop, "pretrain_sr", "odd"):
        assert run.code == 1
        assert run.errors == ["charreg: sr_module: batch 5, wanted a multiple of the 2 processes"]


def test_a_loss_that_is_not_finite_in_one_process_stops_all(workshop: Workshop) -> None:
    runs = together(workshop, "pretrain_sr", "nan", ("loss", 6, "l_sr"))
    assert [run.code for run in runs] == [1, 1]
    for run in runs:
        assert len(run.errors) == 1
        assert "loss l_sr is not finite at step 6" in run.errors[0]
    assert runs[0].files() == {}


def test_processes_with_different_states_refuse_to_mix(workshop: Workshop) -> None:
    workshop.run("pretrain_sr", "shared", ("signal", int(signal.SIGTERM), 7))
    port = str(free_port())
    runs = []
    for rank, root in enumerate(("shared", "elsewhere")):
        env = {
            "RANK": str(rank),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "2",
            "TORCHELASTIC_RUN_ID": "test",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "GLOO_SOCKET_IFNAME": "lo",
        }
        runs.append(workshop.start("pretrain_sr", root, env=env))
    for run in runs:
        assert run.wait().code == 1
        assert len(run.errors) == 1
        assert "the processes found different resume states" in run.errors[0]


def test_torchrun_starts_a_stage(workshop: Workshop) -> None:
    """The launcher itself, once: what the other tests imitate."""
    out = workshop.folder / "runs" / "torchrun"
    (out / ".dvc").mkdir(parents=True)
    workshop.set_params(CURVES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "DVC_ROOT": str(out), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ended = subprocess.run(
        [*command, *workshop.command("finetune_joint", out)],
        cwd=workshop.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    workshop.run("finetune_joint", "alone")
    assert difference(workshop, "alone", "torchrun") <= TOLERANCE
    timings = (out / "timings.json").read_text()
    assert '"processes": 2' in timings


def test_shares_make_up_the_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import charreg.sampling as sampling

    stream = Stream(10, 6, 0, "pairs")
    monkeypatch.setattr(sampling, "world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(sampling, "rank", lambda rank=rank: rank)
        shares += my_share(stream.indices(4)).tolist()
    assert shares == stream.indices(4).tolist()


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
