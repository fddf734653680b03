"""Parameter counts and inference time of CR and of the two systems the paper compares its costs with, on freshly built
networks (they depend on no training).

The paper prints 2.7 M parameters and 7.5 ms per image on a Tesla P100 for CR, without saying what is counted. Counting
everything stage 2 trains or needs gives its number.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from charreg.core.runtime import machine, versions
from charreg.cr.regulariser import Regulariser
from charreg.networks.discriminators import Discriminator, FeatureDiscriminator
from charreg.networks.super_resolver import SuperResolver
from charreg.peers.cyclegan import PatchDiscriminator, TranslatingSuperResolver, Translator
from charreg.peers.lrgan import HighToLow

PAPER: dict[str, Any] = {
    "super_resolver": {"width": 64, "blocks": (12, 3, 2), "norm": "bn", "output": "tanh"},
    "regulariser": {"width": 64, "blocks": 3, "norm": "bn", "output": "residual"},
    "discriminator": {"width": 64, "pooling": "late", "spectral_norm": True},
    "feature_discriminator": {"widths": (256, 256, 128, 64), "spectral_norm": True, "input": "l2"},
    "embedding": 512,
    "lrgan": {"width": 64, "blocks": (12, 3, 2), "norm": "bn", "output": "tanh", "d_width": 64, "d_pooling": "late"},
    "cyclegan": {"width": 64, "blocks": 6, "d_width": 64},
}


@dataclass(frozen=True)
class System:
    """A compared system: the network that runs at test time, and all that its training holds."""

    super_resolver: nn.Module
    trained: tuple[nn.Module, ...]


def build_cr(settings: dict[str, Any]) -> System:
    """The regulariser and the super-resolver, with what stage 2 trains or needs beside them: the inverse regulariser,
    the LR and the feature discriminator. 2,685,863 parameters at width 64, the published 2.7 M.
    """
    regulariser, super_resolver = Regulariser(**settings["regulariser"]), SuperResolver(**settings["super_resolver"])
    beside = (
        Regulariser(**settings["regulariser"]),
        Discriminator(size=16, **settings["discriminator"]),
        FeatureDiscriminator(embedding=settings["embedding"], **settings["feature_discriminator"]),
    )
    return System(nn.Sequential(regulariser, super_resolver), (regulariser, super_resolver, *beside))


def build_lrgan(settings: dict[str, Any]) -> System:
    """LH, HL and a discriminator for each: 4,008,392 parameters at width 64, the published 4.0 M."""
    layout = {name: settings[name] for name in ("width", "norm", "output")}
    judge = {"width": settings["d_width"], "pooling": settings["d_pooling"]}
    lh = SuperResolver(**layout, blocks=settings["blocks"], activation="relu")
    return System(lh, (lh, HighToLow(**layout), Discriminator(size=16, **judge), Discriminator(size=64, **judge)))


def build_cyclegan(settings: dict[str, Any]) -> System:
    """Two translators and a discriminator for each: 21,204,872 parameters at width 64, the published 21 M."""
    width, blocks = settings["width"], settings["blocks"]
    there, back = TranslatingSuperResolver(width, blocks), Translator(width, blocks)
    judges = [PatchDiscriminator(settings["d_width"]) for _ in range(2)]
    return System(there, (there, back, *judges))


SYSTEMS = {"cr": build_cr, "lrgan": build_lrgan, "cyclegan": build_cyclegan}


def count_parameters(*networks: nn.Module) -> int:
    """Trainable numbers of the networks; buffers (batch norm averages, spectral norm vectors) are not counted."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def milliseconds(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median wall-clock of `run` in ms after two calls that are not counted."""
    times = []
    for repeat in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repeat >= 2:  # the first calls allocate and choose kernels
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def single_and_batch(
    run: Callable[[Tensor], object], batch: int, repeats: int, device: torch.device
) -> dict[str, float]:
    """Milliseconds of `run` on one 16x16 face, `single`, and on `batch` of them."""
    with torch.inference_mode():
        faces = {name: torch.rand(count, 3, 16, 16, device=device) for name, count in (("single", 1), ("batch", batch))}
        return {
            name: round(milliseconds(lambda x=x: run(x), repeats, device), 3)  # type: ignore[misc]
            for name, x in faces.items()
        }


def measure_complexity(settings: dict[str, Any], *, batch: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Parameters and times of every system, at the run's widths and at the paper's: `reports/complexity.json`.

    settings: shaped like PAPER; the peers of SYSTEMS only where the run declares them.
    """
    systems: dict[str, dict[str, Any]] = {}
    for name, build in SYSTEMS.items():
        if name != "cr" and name not in settings:
            continue
        for width, chosen in (("run", settings), ("paper", PAPER)):
            system = build(chosen if name == "cr" else chosen[name])
            times = single_and_batch(system.super_resolver.to(device).eval(), batch, repeats, device)
            counts = {"parameters": count_parameters(*system.trained)}
            systems.setdefault(name, {})[width] = counts | {f"ms_{key}": value for key, value in times.items()}
    return {
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
        "machine": machine(),
        "versions": versions(),
        "batch": batch,
        "repeats": repeats,
        "systems": systems,
    }
