"""What a training is to the loop that runs it: networks, optimisers, and one step."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.models import Blueprint
from charreg.core.params import Schedule
from charreg.core.seeding import torch_seed
from charreg.core.tensors import channels_last
from charreg.training import distributed

Losses = dict[str, Tensor]
GAN_BETAS = (0.5, 0.999)  # of Adam where a generator and a discriminator take turns (Radford et al., ICLR 2016)


class Job(ABC):
    """One training: its networks, its optimisers and one step. No loop, no files, no logging."""

    name: str  # of curves and timings
    label: str = ""  # of its row in the report, where it differs from the usual one: a fallback has to be visible
    schedule: Schedule
    iterations: int
    averaged: tuple[str, ...] = ()  # networks whose moving average is measured and exported
    exports: tuple[str, ...]  # networks the model folder holds

    def __init__(self, seed: int, schedule: Schedule, iterations: int, device: torch.device) -> None:
        self.seed, self.schedule, self.iterations, self.device = seed, schedule, iterations, device
        if schedule.batch % distributed.world_size():
            raise CharregError(
                f"{self.name}: batch {schedule.batch}, wanted a multiple of the {distributed.world_size()} processes"
            )
        self.networks: dict[str, nn.Module] = {}
        self.blueprints: dict[str, Blueprint] = {}
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.rates: dict[str, float] = {}

    def add_network(self, name: str, blueprint: Blueprint, start: nn.Module | None = None) -> nn.Module:
        """Build a network from a seed of its own, or go on from `start`; it trains with the job."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(self.seed, self.name, name))
            network = blueprint.build()
        if start is not None:
            network.load_state_dict(start.state_dict())
        self.networks[name] = channels_last(network).to(self.device).train()
        self.blueprints[name] = blueprint
        return self.networks[name]

    def add_adam(
        self, name: str, networks: list[nn.Module], rate: float, betas: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        parameters = [parameter for network in networks for parameter in network.parameters()]
        self.optimisers[name] = torch.optim.Adam(parameters, lr=rate, betas=betas, fused=True)
        self.rates[name] = rate

    def descend(self, name: str, loss: Tensor) -> None:
        """One step of the optimiser `name` down the gradient of `loss` over the global batch."""
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        distributed.average_gradients(parameters)
        if self.schedule.clip_norm:
            nn.utils.clip_grad_norm_(parameters, self.schedule.clip_norm)
        optimiser.step()

    def rate(self, step: int) -> float:
        """Factor on every learning rate at a step."""
        if self.schedule.lr_decay == "none":
            return 1.0
        late = max(0.0, (step / self.iterations - 0.7) / 0.3)
        return 0.1 + 0.9 * (1 + math.cos(math.pi * late)) / 2

    def rate_of(self, optimiser: str, step: int) -> float:
        """Learning rate of one optimiser at a step."""
        return self.rates[optimiser] * self.rate(step)

    @abstractmethod
    def step(self, step: int) -> Losses:
        """Train on the global batch of a step; the losses by name (scalars)."""

    @abstractmethod
    def health(self, networks: Mapping[str, nn.Module]) -> dict[str, float]:
        """Signals measured on fixed faces with the networks as they would be exported."""

    @abstractmethod
    def sheet(self, networks: Mapping[str, nn.Module]) -> npt.NDArray[np.uint8]:
        """A picture of fixed samples, uint8 [h, w, 3]."""


@contextlib.contextmanager
def without_gradients(*networks: nn.Module) -> Iterator[None]:
    """Freeze parameters for a block: gradients flow through the networks but are not spent on them."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)
