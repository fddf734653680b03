"""The batches of a training: artificial pairs and genuine faces, drawn as functions of (seed, step)."""

import torch
from torch import Tensor

from charreg.errors import CharregError
from charreg.faces import FaceSet, Pixels
from charreg.sampling import Stream, my_share, random_numbers, take, to_tensor


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
