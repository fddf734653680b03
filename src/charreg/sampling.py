"""Data order and randomness as pure functions of (seed, step): nothing about a loader has to be saved."""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from charreg.distributed import rank, world_size


def random_numbers(*words: Any) -> np.random.Generator:
    """A NumPy generator that depends on the words alone: seed, job, stream, step."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def torch_seed(*words: Any) -> int:
    """A seed for torch that depends on the words alone."""
    return int(random_numbers(*words).integers(2**62))


@lru_cache(maxsize=4)
def _order(words: tuple[Any, ...], epoch: int, count: int) -> npt.NDArray[np.int64]:
    return random_numbers(*words, "order", epoch).permutation(count)


class Stream:
    """An endless shuffled walk through `count` items, `batch` of them a step, every item once an epoch."""

    def __init__(self, count: int, batch: int, *words: Any) -> None:
        self.count, self.batch, self.words = count, batch, words

    def indices(self, step: int) -> npt.NDArray[np.int64]:
        """Items of the GLOBAL batch of a step, int64 [batch]."""
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        return np.array(
            [_order(self.words, int(p // self.count), self.count)[p % self.count] for p in positions],
            dtype=np.int64,
        )

    def flips(self, step: int) -> npt.NDArray[np.bool_]:
        """Which items of the global batch are mirrored, bool [batch], p = 0.5."""
        return random_numbers(*self.words, "flip", step).random(self.batch) < 0.5


def my_share(batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The slice of a global batch that belongs to this process."""
    share = len(batch) // world_size()
    return batch[rank() * share : (rank() + 1) * share]


def take(
    images: npt.NDArray[np.uint8],
    indices: npt.NDArray[np.int64],
    flips: npt.NDArray[np.bool_],
    device: torch.device,
) -> Tensor:
    """Chosen faces as float32 [B, 3, S, S] in [-1, 1], mirrored where `flips` says so."""
    chosen = images[indices]
    chosen = np.where(flips[:, None, None, None], chosen[:, :, ::-1], chosen)
    return to_tensor(chosen).to(device)


def to_tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """uint8 [B, S, S, 3] to float32 [B, 3, S, S] in [-1, 1], laid out channels last as images are."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(x: Tensor) -> npt.NDArray[np.uint8]:
    """float [B, 3, S, S] in [-1, 1] to uint8 [B, S, S, 3]: the one place where outputs are clamped."""
    levels = ((x.detach().float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().numpy()


def channels_last(network: nn.Module) -> nn.Module:
    """The network with its weights laid out as images are, in which narrow convolutions are fastest on a CPU."""
    return network.to(memory_format=torch.channels_last)
