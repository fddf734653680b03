"""phi_fr, the CentreFace recogniser (Wen et al., ECCV 2016), at 64x64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.tensors import channels_last, to_tensor
from charreg.networks.blocks import norm_layer

Embedder = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]  # uint8 [N, 64, 64, 3] to floats [N, E]


def _conv(before: int, after: int, batch_norm: bool, residual: bool = False) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=not residual)
    if residual:
        nn.init.normal_(convolution.weight, std=0.01)
    else:
        nn.init.xavier_uniform_(convolution.weight)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
    return [convolution, norm_layer("bn" if batch_norm else "none", after), nn.PReLU(after)]


class FaceBlock(nn.Module):
    """conv3x3 - PReLU - conv3x3 - PReLU plus identity; convolutions start small (std 0.01) and have no bias."""

    def __init__(self, width: int, batch_norm: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_conv(width, width, batch_norm, residual=True), *_conv(width, width, batch_norm, residual=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class CentreFace(nn.Module):
    """[B, 3, 64, 64] in [-1, 1] to embeddings [B, embedding]: 27 convolutions, all padded, and one linear layer.

    width is a factor on every channel count; batch_norm goes beyond the paper. 26,488,224 parameters by default.
    """

    def __init__(self, width: float = 1.0, embedding: int = 512, batch_norm: bool = False) -> None:
        super().__init__()
        self.embedding = embedding
        c32, c64, c128, c256, c512 = (max(1, round(width * channels)) for channels in (32, 64, 128, 256, 512))
        layers = [*_conv(3, c32, batch_norm), *_conv(c32, c64, batch_norm), nn.MaxPool2d(2)]
        for channels, blocks, after in ((c64, 1, c128), (c128, 2, c256), (c256, 5, c512)):
            layers += [FaceBlock(channels, batch_norm) for _ in range(blocks)]
            layers += [*_conv(channels, after, batch_norm), nn.MaxPool2d(2)]
        layers += [FaceBlock(c512, batch_norm) for _ in range(3)]
        self.features = nn.Sequential(*layers)
        self.linear = nn.Linear(4 * 4 * c512, embedding)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).flatten(1))  # type: ignore[no-any-return]


def centreface_embedder(module: nn.Module, device: torch.device, batch: int = 64) -> Embedder:
    """The embedding of a CentreFace network, in evaluation mode and without gradients, batch by batch."""

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


def embed_for_matching(
    embed: Embedder, images: npt.NDArray[Any], match_input: str = "embedding+mirror"
) -> npt.NDArray[np.float64]:
    """Unit vectors [N, E] of uint8 [N, S, S, 3]: the embedding, plus that of the mirror image if asked."""
    vectors = embed(images).astype(np.float64)
    if match_input == "embedding+mirror":
        vectors = vectors + embed(images[:, :, ::-1])
    if vectors.ndim != 2 or len(vectors) != len(images) or not np.isfinite(vectors).all():
        raise CharregError(f"embedding: found {vectors.shape} or values not finite, wanted [{len(images)}, E]")
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12))
