"""Faces as tensors and back, and the device they are computed on."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.runtime import runtime


def compute_device(device: str = "") -> torch.device:
    """The device named `auto`, `cpu`, `cuda` or `cuda:N`, with deterministic operations wherever torch has them.

    Without a name it is the one the environment says (`charreg.core.runtime`).

    Raises CharregError when CUDA is named and not there.
    """
    device = device or runtime().device
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise CharregError(f"device: found {device!r} but no CUDA device is available, wanted auto or cpu")
    kind = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    # not use_deterministic_algorithms, which imports torch's compiler: 2.7 s in each of fifty stages
    torch.set_deterministic_debug_mode("warn" if kind.startswith("cuda") else "error")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it
    return torch.device(kind)


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
