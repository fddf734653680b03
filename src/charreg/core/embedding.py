"""Faces as vectors that say who they show: what a recogniser makes of uint8 faces."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from charreg.core.errors import CharregError
from charreg.core.tensors import channels_last, to_tensor

Embedder = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]  # uint8 [N, 64, 64, 3] to floats [N, E]


def embedder_of(module: nn.Module, device: torch.device, batch: int = 64) -> Embedder:
    """What a recogniser, [B, 3, 64, 64] in [-1, 1] to [B, E], makes of uint8 faces, in evaluation mode, in batches."""

    def embed(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (64, 64, 3):
            raise CharregError(f"faces: found {images.dtype} {images.shape}, wanted uint8 [N, 64, 64, 3]")
        training = module.training
        channels_last(module).to(device).eval()
        with torch.inference_mode():
            found = [
                module(to_tensor(images[start : start + batch]).to(device)).float().cpu().numpy()
                for start in range(0, len(images), batch)
            ]
        module.train(training)
        return np.concatenate(found) if found else np.zeros((0, 1), np.float32)

    return embed


def embed_for_matching(embed: Embedder, images: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Unit vectors [N, E] of uint8 [N, S, S, 3]: the embedding of each plus that of its mirror image."""
    vectors = embed(images).astype(np.float64) + embed(images[:, :, ::-1])
    if vectors.ndim != 2 or len(vectors) != len(images) or not np.isfinite(vectors).all():
        raise CharregError(f"embedding: found {vectors.shape} or values not finite, wanted [{len(images)}, E]")
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
