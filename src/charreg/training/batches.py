"""The batches of a training: which faces a step sees is a function of (seed, step), and no loader has a state."""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet, Pixels
from charreg.core.seeding import random_numbers
from charreg.core.tensors import to_tensor
from charreg.training.distributed import rank, world_size


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


class Pairs:
    """Artificial pairs (A, H) of an HR face set; the same flip for both faces of a pair."""

    def __init__(self, faces: FaceSet, batch: int, seed: int, device: torch.device) -> None:
        if faces.lr is None or not len(faces):
            raise CharregError(f"{faces.folder}: found {len(faces)} HR faces, wanted at least one with its LR face")
        self.hr, self.lr, self.device = faces.images, faces.lr, device
        self.stream = Stream(len(faces), batch, seed, "pairs")
        self.fixed = random_numbers(seed, "fixed pairs").permutation(len(faces))

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """A [b, 3, 16, 16] and H [b, 3, 64, 64] in [-1, 1]: this process's share of the step's global batch."""
        indices, flips = my_share(self.stream.indices(step)), my_share(self.stream.flips(step))
        return take(self.lr, indices, flips, self.device), take(self.hr, indices, flips, self.device)

    def artificial(self, step: int) -> Tensor:
        """A of `batch` alone, for who needs no H: it is sixteen times as large."""
        return take(self.lr, my_share(self.stream.indices(step)), my_share(self.stream.flips(step)), self.device)

    def sample(self, count: int) -> tuple[Tensor, Tensor]:
        """The same `count` pairs at every call, unflipped."""
        chosen = self.fixed[:count]
        return to_tensor(self.lr[chosen]).to(self.device), to_tensor(self.hr[chosen]).to(self.device)


class Genuine:
    """Genuine LR faces G, an endless shuffled walk of its own."""

    def __init__(self, faces: FaceSet, batch: int, seed: int, device: torch.device) -> None:
        if not len(faces):
            raise CharregError(
                f"{faces.folder}: no genuine face, wanted at least one; see the rejections in its meta.json"
            )
        self.images: Pixels = faces.images
        self.device = device
        self.stream = Stream(len(faces), batch, seed, "genuine")
        self.fixed = random_numbers(seed, "fixed genuine").permutation(len(faces))

    def batch(self, step: int) -> Tensor:
        """G [b, 3, 16, 16] in [-1, 1]: this process's share of the step's global batch."""
        indices, flips = my_share(self.stream.indices(step)), my_share(self.stream.flips(step))
        return take(self.images, indices, flips, self.device)

    def sample(self, count: int) -> Tensor:
        """The same `count` faces at every call, unflipped."""
        return to_tensor(self.images[self.fixed[:count]]).to(self.device)
