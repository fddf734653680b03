"""What a finished training leaves: model folder, curves, sheets and timings; one of each for every seed."""

import contextlib
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from charreg.core.errors import CharregError
from charreg.core.files import output_folder, write_bytes, write_json
from charreg.core.models import save_model
from charreg.core.runtime import machine, versions
from charreg.training import distributed
from charreg.training.checkpoint import Scratch
from charreg.training.job import Job
from charreg.training.loop import Training, train


@dataclass(frozen=True)
class Assignment:
    """A job, where its resume states lie, and what its model.json says of its inputs."""

    job: Job
    scratch: Scratch
    info: Mapping[str, Any]


def run_jobs(assignments: Iterable[Assignment], models: Path, curves: Path) -> Mapping[str, nn.Module]:
    """Train the same job for one seed after the other, then write a folder of its name into `models` and `curves`.

    The first seed's outputs lie in the folders themselves; those of a further seed k in their `seed-<k>`.
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
            out = models / finished[0][0].job.name
            try:
                _export(finished, out, curves / out.name)
            except OSError as error:
                raise CharregError(
                    f"{error.filename or out}: {error.strerror or error}; the training is kept, "
                    "mend this and the same command exports it"
                ) from None
        distributed.wait_for_all()
    return finished[0][1].exported()


def _export(finished: list[tuple[Assignment, Training]], out: Path, curves: Path) -> None:
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
            write_json(table / "timings.json", _timings(training))
            for sheet in one.scratch.folder.glob("sheet-*.png"):
                (table / sheet.name).write_bytes(sheet.read_bytes())


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
