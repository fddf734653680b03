"""What this machine has: device, processes, disk, memory."""

import re
import resource
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from charreg.app.doctor.finding import Finding, room, size
from charreg.app.doctor.trainings import Measured
from charreg.core.errors import CharregError
from charreg.core.faces import HR_SIZE, LR_SIZE
from charreg.core.params import Params
from charreg.core.runtime import machine, runtime
from charreg.core.tensors import compute_device
from charreg.metrics.distances import PARTS, SAMPLE
from charreg.training.checkpoint import KEPT

HR_BYTES, LR_BYTES, ROW_BYTES = 3 * HR_SIZE**2, 3 * LR_SIZE**2, 300  # of a face, and of its row in index.csv
DIMS = 2048  # features of an image, at most
TWICE = 2  # stage outputs lie in the workspace and, unless the file system can share them, in DVC's cache


def check_device() -> tuple[torch.device, Finding]:
    """The device trainings run on; the CPU stands in where it is missing, so that the other checks can go on."""
    try:
        device = compute_device()
    except CharregError as error:
        return torch.device("cpu"), Finding("FAULT", "device", str(error))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()["cpu"]
    return device, Finding("ok", "device", f"{device}, {name}, {machine()['cores']} cores")


def processes_of(launch: str) -> tuple[int, int]:
    """Processes on a node, and nodes, of a `launch` such as `torchrun --nproc-per-node 8 --nnodes 2`."""
    found = dict(re.findall(r"--(nproc|nnodes)(?:[-_]per[-_]node)?[ =](\d+)", launch))
    return int(found.get("nproc", 1)), int(found.get("nnodes", 1))


def check_launch(device: torch.device) -> Finding:
    """More processes than GPUs fail at the start; batches are checked where the trainings are."""
    here, nodes = processes_of(runtime().launch)
    text = f"{runtime().launch}: {here} processes on each of {nodes} nodes"
    if device.type == "cuda" and here > torch.cuda.device_count():
        text += f", found {torch.cuda.device_count()} GPUs, wanted one for each process"
        return Finding("FAULT", "launch", text)
    return Finding("ok", "launch", text)


def check_disk(
    params: Params, faces: Mapping[str, int], trainings: Sequence[Measured], missing: Sequence[str]
) -> Finding:
    """Room for the outputs of the stages and for resume states.

    faces: of each role, about; missing: roles and trainings of which nothing is known.
    """
    tests = sum(count for key, count in faces.items() if not key.endswith(".train"))
    resolved = len(params.methods) * len(params.seeds) * tests * (HR_BYTES + LR_BYTES + 2 * ROW_BYTES)
    parts = {
        "face sets": sum(_bytes_of_role(key, count) for key, count in faces.items()),
        "super-resolved faces": resolved,
        "reference features": len(PARTS) * DIMS * (8 * DIMS + 4 * SAMPLE),
        "models": sum(each.runs * each.model_bytes for each in trainings),
    }
    states = [each.runs * each.state_bytes for each in trainings]
    parts = {name: TWICE * value for name, value in parts.items()}
    parts["resume states"] = KEPT * sum(states) + max(states, default=0)  # one more while it is written
    words = ", ".join(f"{name} {size(value)}" for name, value in parts.items())
    return room("disk", sum(parts.values()), shutil.disk_usage(Path.cwd()).free, words, missing)


def _bytes_of_role(key: str, faces: int) -> int:
    """A role's face set; training sets lie there again without the faces of tests (stage train_faces)."""
    copies = 2 if key.endswith(".train") else 1
    return copies * faces * (ROW_BYTES + LR_BYTES + (HR_BYTES if key.startswith("hr_roles") else 0))


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


def check_memory(processes: int, missing: Sequence[str]) -> Finding:
    """As much for every process of a stage as this one held at most so far; missing: what it has not tried."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    text = f"{processes} x what one process took here"
    return room("memory", processes * peak, available_memory(), text, missing)
