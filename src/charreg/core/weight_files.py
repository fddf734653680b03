"""Weight files that others made: opened only if they are the file that was named, and never run."""

import hashlib
import io
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from charreg.core.errors import CharregError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of values in [0, 1]


def read_weights(path: Path, sha256: str, remedy: str) -> dict[str, Tensor]:
    """The tensors of a weight file (safetensors or torch), by name, if its SHA-256 is the wanted one. Of a torch file
    nothing but tensors is unpickled: a program hidden in it is refused, not run.

    Raises CharregError naming the file, what was found, what was wanted and `remedy`.
    """
    try:
        content = path.read_bytes()  # read once: what is checked is what is opened
    except OSError as error:
        raise CharregError(f"{path}: {error.strerror}, wanted a weight file; {remedy}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CharregError(f"{path}: sha256 {found[:12]} differs from {sha256[:12]}; {remedy}")
    if path.suffix == ".safetensors":
        try:
            return load_safetensors(content)
        except SafetensorError as error:
            raise CharregError(f"{path}: not a safetensors file ({error}); {remedy}") from None
    try:
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers of odd bytes raise nearly everything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CharregError(f"{path}: not a file of plain tensors, refused ({reason}); {remedy}") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CharregError(f"{path}: found {type(tensors).__name__}, wanted tensors by name; {remedy}")
    return tensors


def load_tensors(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a network its weights; every name and shape has to fit."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CharregError(f"{path}: weights of another network ({reason})") from None
