"""Device, processes, weight files and package versions."""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from charreg.app.doctor.finding import Finding
from charreg.core.errors import CharregError
from charreg.core.files import sha256_of_file
from charreg.core.params import Params
from charreg.core.runtime import machine, runtime
from charreg.metrics.features import INCEPTION_REMEDY, load_efficientnet_lite0
from charreg.networks.content import VGG_REMEDY
from charreg.peers.base import check_options
from charreg.peers.srgan import SrganOptions, TrainSrgan
from charreg.training.distributed import start

NAMED = 5  # packages a line lists


def check_device() -> tuple[torch.device, Finding]:
    """The device trainings run on; the CPU stands in where it is missing, so that the other checks can go on."""
    try:
        device = start()
    except CharregError as error:
        return torch.device("cpu"), Finding("FAULT", "device", str(error))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()["cpu"]
    return device, Finding("ok", "device", f"{device}, {name}, {machine()['cores']} cores")


def processes_of(launch: str) -> tuple[int, int]:
    """Processes on a node, and nodes, of a `launch` such as `torchrun --nproc-per-node 8 --nnodes 2`."""
    found = {
        name.replace("_", "-"): value for name, value in re.findall(r"--(nproc[-_]per[-_]node|nnodes)[ =](\d+)", launch)
    }
    return int(found.get("nproc-per-node", 1)), int(found.get("nnodes", 1))


def check_launch(device: torch.device) -> Finding:
    """More processes than GPUs fail at the start; batches are checked where the trainings are."""
    launch = runtime().launch
    here, nodes = processes_of(launch)
    text = f"{launch}: {here} processes on each of {nodes} nodes"
    if device.type == "cuda" and here > torch.cuda.device_count():
        return Finding(
            "FAULT", "launch", f"{text}, found {torch.cuda.device_count()} GPUs, wanted one for each process"
        )
    return Finding("ok", "launch", text)


def check_weights(params: Params) -> Iterator[Finding]:
    """The weight files this run reads: there, with the right SHA-256."""
    evaluate, srgan = params.evaluate, params.peers.get("srgan")
    if evaluate.features == "inception":
        yield _weight_file("evaluate.weights", evaluate.weights, evaluate.sha256, INCEPTION_REMEDY)
    else:
        try:
            load_efficientnet_lite0(evaluate.resize, torch.device("cpu"))
            yield Finding("ok", "weights of efficientnet_lite0", "the file of its package")
        except CharregError as error:
            yield Finding("FAULT", "weights of efficientnet_lite0", str(error))
    options = check_options(TrainSrgan, srgan) if srgan else None
    if isinstance(options, SrganOptions) and options.vgg:
        yield _weight_file("peers.srgan.vgg", options.vgg, options.vgg_sha256, VGG_REMEDY)
    elif options:
        yield Finding("ok", "peers.srgan.vgg", "empty: the recogniser's features stand in for VGG19's")


def _weight_file(key: str, path: str, wanted: str, remedy: str) -> Finding:
    if not path:
        return Finding("FAULT", key, f"empty, wanted a weight file; {remedy}")
    if not Path(path).is_file():
        return Finding("FAULT", key, f"{path}: no such file; {remedy}")
    found = sha256_of_file(Path(path))
    if found != wanted:
        return Finding(
            "FAULT", key, f"{path}: sha256 {found} differs from {wanted or 'none, no digest is set'}; {remedy}"
        )
    return Finding("ok", key, f"{path}: sha256 {found[:12]} as wanted")


def check_versions(constraints: Path) -> Finding:
    """Installed packages against the versions tried; those that are not installed are nobody's fault here."""
    if not constraints.is_file():
        return Finding("warning", "versions", f"{constraints}: not found, wanted the list of versions tried")
    wanted = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", constraints.read_text(encoding="utf-8"), re.MULTILINE))
    installed = {_plain(each.name): each.version for each in importlib.metadata.distributions() if each.name}
    differing = [
        f"{name} {installed[_plain(name)]} (tried: {version})"
        for name, version in wanted.items()
        if _plain(name) in installed and installed[_plain(name)].partition("+")[0] != version  # +cu130 and the like
    ]
    if not differing:
        return Finding("ok", "versions", f"as in {constraints}")
    more = f" and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
    return Finding("warning", "versions", ", ".join(differing[:NAMED]) + more + f"; pip install -c {constraints} -e .")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
