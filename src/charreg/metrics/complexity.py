"""Parameter counts and inference time, on freshly built networks (they depend on no training).

Published for CR, without saying what is counted: 2.7 M parameters and 7.5 ms per image on a Tesla P100.
At width 64 the counting that gives 2.7 M is everything stage 2 trains or needs: both generators, the inverse
regulariser, the LR and the feature discriminator. Every other reading is counted beside it.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from charreg.machine import machine, versions
from charreg.networks.discriminators import Discriminator, FeatureDiscriminator
from charreg.networks.regulariser import Regulariser
from charreg.networks.super_resolver import SuperResolver

PAPER: dict[str, Any] = {
    "super_resolver": {"width": 64, "blocks": (12, 3, 2), "norm": "bn", "output": "tanh"},
    "regulariser": {"width": 64, "blocks": 3, "norm": "bn", "output": "residual"},
    "discriminator": {"width": 64, "pooling": "late", "spectral_norm": True},
    "feature_discriminator": {"widths": (256, 256, 128, 64), "spectral_norm": True, "input": "l2"},
    "embedding": 512,
}


@dataclass(frozen=True)
class Networks:
    """Every network of CR but the recogniser."""

    super_resolver: nn.Module
    regulariser: nn.Module
    inverse: nn.Module
    lr_discriminator: nn.Module
    inverse_discriminator: nn.Module
    image_discriminator: nn.Module
    feature_discriminator: nn.Module


def build_networks(settings: dict[str, Any]) -> Networks:
    """Fresh networks of `settings`, a mapping shaped like PAPER."""
    discriminator = settings["discriminator"]
    return Networks(
        super_resolver=SuperResolver(**settings["super_resolver"]),
        regulariser=Regulariser(**settings["regulariser"]),
        inverse=Regulariser(**settings["regulariser"]),
        lr_discriminator=Discriminator(size=16, **discriminator),
        inverse_discriminator=Discriminator(size=16, **discriminator),
        image_discriminator=Discriminator(size=64, **discriminator),
        feature_discriminator=FeatureDiscriminator(
            embedding=settings["embedding"], **settings["feature_discriminator"]
        ),
    )


def count_parameters(*networks: nn.Module) -> int:
    """Trainable numbers of the networks; buffers (batch norm averages, spectral norm vectors) are not counted."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def countings(networks: Networks) -> dict[str, int]:
    """Every reading of "model parameters" (methods 1.8), by name."""
    artificial = count_parameters(networks.super_resolver)
    genuine = artificial + count_parameters(networks.regulariser)
    stage_2 = genuine + count_parameters(networks.inverse, networks.lr_discriminator, networks.feature_discriminator)
    inverse = stage_2 + count_parameters(networks.inverse_discriminator)
    return {
        "deployed_genuine": genuine,
        "deployed_artificial": artificial,
        "stage_2_system": stage_2,
        "plus_inverse_discriminator": inverse,
        "plus_image_discriminator": inverse + count_parameters(networks.image_discriminator),
    }


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


def inference_times(networks: Networks, batch: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of 16x16 -> 64x64, for one image and for a batch, with and without the regulariser."""
    super_resolver = networks.super_resolver.to(device).eval()
    regulariser = networks.regulariser.to(device).eval()
    found = {}
    with torch.inference_mode():
        for name, count in (("single", 1), ("batch", batch)):
            faces = torch.rand(count, 3, 16, 16, device=device) * 2 - 1

            def genuine(faces: torch.Tensor = faces) -> object:
                return super_resolver(regulariser(faces))

            def artificial(faces: torch.Tensor = faces) -> object:
                return super_resolver(faces)

            found[f"genuine_{name}"] = milliseconds(genuine, repeats, device)
            found[f"artificial_{name}"] = milliseconds(artificial, repeats, device)
    return {name: round(value, 3) for name, value in found.items()}


def measure_complexity(settings: dict[str, Any], *, batch: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Countings and times at the run's widths and at the paper's, as `reports/complexity.json` has them."""
    report: dict[str, Any] = {
        "device": device.type if device.type == "cpu" else torch.cuda.get_device_name(device),
        "machine": machine(),
        "versions": versions(),
        "batch": batch,
        "repeats": repeats,
    }
    for name, chosen in (("run", settings), ("paper", PAPER)):
        networks = build_networks(chosen)
        report[name] = {
            "width": chosen["super_resolver"]["width"],
            "parameters": countings(networks),
            "milliseconds": inference_times(networks, batch, repeats, device),
        }
    return report
