"""How and where a run computes. Nothing here changes a result beyond rounding, so it is no parameter: it comes from
environment variables (`CHARREG_DEVICE=cpu dvc repro`), and changing it reruns nothing.
"""

import contextlib
import os
import platform
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from charreg.core.errors import CharregError
from charreg.core.params import Count, Section, written_as

PREFIX = "CHARREG_"
Executor = Annotated[str, written_as(r"serial|processes:[1-9][0-9]*|dask:.+", "serial, processes:N or dask:ADDRESS")]
Device = Annotated[str, written_as(r"auto|cpu|cuda(:[0-9]+)?", "auto, cpu, cuda or cuda:N")]


def _processes() -> str:
    return f"processes:{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1}"


class Runtime(Section):
    """The environment variables `CHARREG_<NAME>` and what holds without them."""

    device: Device = "auto"
    launch: str = "python"  # of trainings; on N accelerators: torchrun --nproc-per-node N
    executor: Executor = Field(default_factory=_processes)  # where photographs are worked on
    log_every: Count | None = None  # steps between rows of curves.tsv; a fiftieth of the run
    health_every: Count | None = None  # a quarter of the run
    sheet_every: Count | None = None  # a half of the run
    checkpoint_every: Count | None = None  # an eighth of the run, 500 at most


def runtime() -> Runtime:
    """What the environment says. Raises CharregError, one line, that names the variable."""
    found = {
        name: os.environ[PREFIX + name.upper()] for name in Runtime.model_fields if PREFIX + name.upper() in os.environ
    }
    numbers = {name: int(value) if value.isdecimal() else value for name, value in found.items()}
    try:
        return Runtime.model_validate(numbers)
    except ValidationError as error:
        fault = error.errors()[0]
        wanted = str(fault["msg"]).removeprefix("Value error, ")
        raise CharregError(
            f"{PREFIX}{str(fault['loc'][0]).upper()}: found {fault['input']!r}, wanted {wanted}"
        ) from None


def machine() -> dict[str, Any]:
    """Processor, its cores, and the threads one operation is spread over: a time means nothing without them."""
    import torch  # slow to import, and stages without tensors read this file too

    return {"cpu": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}


def versions() -> dict[str, str]:
    import torch

    return {"python": platform.python_version(), "torch": torch.__version__}


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
