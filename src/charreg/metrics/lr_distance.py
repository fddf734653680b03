"""A health signal: how far LR faces are from artificial ones, on the embedded feature network."""

from collections.abc import Callable

import torch
from torch import Tensor

from charreg.core.tensors import to_images
from charreg.metrics.features import load_efficientnet_lite0
from charreg.metrics.frechet import Gaussian, frechet_distance

SIDE, BATCH = 112, 64


class LrDistance:
    """Fréchet distance of LR faces from fixed ones. N is small: for watching a training, not for comparing methods.

    reference: gives the fixed faces [N, 3, 16, 16] in [-1, 1]; asked for, like the network, at the first call.
    """

    def __init__(self, reference: Callable[[], Tensor], device: torch.device) -> None:
        self._reference, self._device = reference, device
        self._gaussian: Gaussian | None = None

    def __call__(self, faces: Tensor) -> float:
        """[N, 3, 16, 16] in [-1, 1] to the squared distance."""
        if self._gaussian is None:
            self._network = load_efficientnet_lite0(SIDE, self._device)
            self._gaussian = self._of(self._reference())
        return frechet_distance(self._gaussian, self._of(faces))

    def _of(self, faces: Tensor) -> Gaussian:
        return Gaussian.of(self._network.extract(to_images(faces), BATCH))
