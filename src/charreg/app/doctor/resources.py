"""Disk and memory a run needs against what this machine has."""

import resource
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from charreg.app.doctor.finding import Finding, room
from charreg.app.doctor.photographs import CheckedRole, workers_of
from charreg.app.doctor.trainings import Measured
from charreg.core.params import Params
from charreg.core.runtime import runtime
from charreg.core.scratch import scratch_root
from charreg.metrics.distances import PARTS, SAMPLE
from charreg.training.checkpoint import KEPT

HR_BYTES, LR_BYTES, ROW_BYTES = 3 * 64**2, 3 * 16**2, 300  # of a face, and of its row in index.csv
FEATURES = {"inception": 2048, "efficientnet_lite0": 1280}
TWICE = 2  # stage outputs lie in the workspace and, unless the file system can share them, in DVC's cache


def check_disk(params: Params, roles: Mapping[str, CheckedRole], trainings: Iterable[Measured]) -> Iterator[Finding]:
    """Room for the outputs of the stages, and for resume states, which may lie on another disk."""
    trainings = list(trainings)
    faces = sum(_faces_bytes(key, role.faces) for key, role in roles.items())
    peers = len(set(params.methods) & set(params.trained_peers))
    runs = (len(params.methods) - peers) * len(params.seeds) + peers * len(params.peer_seeds or params.seeds)
    results = runs * _results_bytes(roles)
    dims = FEATURES[params.evaluate.features]
    reference = len(PARTS) * dims * (8 * dims + 4 * SAMPLE)
    models = sum(each.runs * each.model_bytes for each in trainings)
    parts = {"face sets": faces, "super-resolved faces": results, "reference features": reference, "models": models}
    states = max((((KEPT + 1) * each.state_bytes * each.runs) for each in trainings), default=0)
    states += sum(KEPT * each.state_bytes * each.runs for each in trainings)
    outputs = TWICE * sum(parts.values())
    here, scratch = Path.cwd(), _existing(scratch_root())
    words = ", ".join(f"{name} {value / 2**20:,.0f} MiB" for name, value in parts.items()) + "; twice, for DVC's cache"
    if here.stat().st_dev == scratch.stat().st_dev:
        words += f"; resume states {states / 2**20:,.0f} MiB"
        yield room("disk", outputs + states, shutil.disk_usage(here).free, words)
        return
    yield room("disk", outputs, shutil.disk_usage(here).free, words)
    yield room("disk of resume states", states, shutil.disk_usage(scratch).free, str(scratch))


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _faces_bytes(key: str, faces: int) -> int:
    """A role's face set; training sets lie there again without the faces of tests (stage train_faces)."""
    copies = 2 if key.endswith(".train") else 1
    return copies * faces * (ROW_BYTES + LR_BYTES + (HR_BYTES if key.startswith("hr_roles") else 0))


def _results_bytes(roles: Mapping[str, CheckedRole]) -> int:
    """Super-resolved faces of one method and training; the regulated ones of genuine sets with them."""
    tests = [role.faces for key, role in roles.items() if key in ("lr_roles.web", "lr_roles.cctv", "hr_roles.test")]
    return sum(tests) * (HR_BYTES + LR_BYTES + 2 * ROW_BYTES)


def peak_memory() -> int:
    """Bytes this process held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available_memory() -> int:
    """Bytes that can be had now, in this control group."""
    words = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    there = int(words["MemAvailable"].split()[0]) * 1024
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return there
    return there if limit == "max" else min(there, int(limit) - int(used))


def check_memory(extraction: int | None, training: int | None, processes: int) -> Iterator[Finding]:
    """What extraction (one worker) and training (one process) took here, times their processes; None: not measured."""
    there = available_memory()
    workers = workers_of(runtime().executor)
    for name, peak, count in (("extraction", extraction, workers), ("training", training, processes)):
        if peak is not None:
            yield room(f"memory of {name}", peak * count, there, f"{count} x what one process took here")
