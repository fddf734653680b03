"""Content losses: images compared by the features of a frozen network (Ledig et al., CVPR 2017, eq. 5).

The published one uses VGG19, whose weights come from a file the user names. Without it the recogniser's features
take VGG's place, scaled to the same magnitude.
"""

from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.resampling import up
from charreg.core.weight_files import IMAGENET_MEAN, IMAGENET_STD, load_tensors, read_weights
from charreg.networks.blocks import freeze
from charreg.networks.centreface import CentreFace

VGG_FACTOR = 0.006  # Ledig et al.: features over 12.75 make the content loss comparable to the mse of the pixels
VGG_LAYERS = 36  # of torchvision's: up to the last activation before the 5th pooling, phi_54
VGG_REMEDY = "run charreg fetch-weights vgg19, or leave the path empty to use the recogniser's features"


class ContentLoss(nn.Module):
    """scale * mse(phi(S), phi(H)) of faces [B, 3, 64, 64] in [-1, 1]; phi is frozen, gradients reach S through it."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        features: nn.Module,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
        scale: float = 1.0,
    ) -> None:
        """mean, std: what phi expects subtracted from and divided out of values in [0, 1]; the default is [-1, 1]."""
        super().__init__()
        self.features, self.scale = freeze(features), scale
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def maps(self, x: Tensor) -> Tensor:
        """phi(x), feature maps [B, C, h, w] of faces in [-1, 1]."""
        return self.features(((x + 1) / 2 - self.mean) / self.std)  # type: ignore[no-any-return]

    def forward(self, S: Tensor, H: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.maps(H)
        loss: Tensor = self.scale * F.mse_loss(self.maps(S), wanted)
        return loss


def vgg_content(path: Path, sha256: str, device: torch.device) -> ContentLoss:
    """The published content loss: VGG19 before its 5th pooling, on ImageNet-normalised faces.

    path: a safetensors or torch state file with torchvision's names (`features.0.weight`); the classifier is ignored.
    Raises CharregError when it is missing, has another SHA-256 or holds other weights.
    """
    if not sha256:
        raise CharregError(f"{path}: no SHA-256 is set beside its path, wanted what `sha256sum` says of the file")
    from torchvision.models import vgg19  # slow to import, needed for this loss only

    with torch.device("meta"):  # the classifier alone would take half a gigabyte
        features = vgg19(weights=None, init_weights=False).features[:VGG_LAYERS]
    features.to_empty(device="cpu")
    names = {f"features.{name}": name for name in features.state_dict()}
    found = read_weights(path, sha256, VGG_REMEDY)
    load_tensors(features, {names[name]: value for name, value in found.items() if name in names}, path)
    return ContentLoss(features, IMAGENET_MEAN, IMAGENET_STD).to(device)


def face_content(recogniser: CentreFace, A: Tensor, H: Tensor) -> ContentLoss:
    """The stand-in: the recogniser's 8x8 map before its last pooling, a frozen copy of those layers.

    A [N, 3, 16, 16], H [N, 3, 64, 64]: pairs on which the scale is set, so that VGG_FACTOR * loss(UP(A), H) is
    F.mse_loss(UP(A), H), the purpose of the published factor. It lives on their device.
    """
    pools = [place for place, layer in enumerate(recogniser.features) if isinstance(layer, nn.MaxPool2d)]
    loss = ContentLoss(deepcopy(recogniser.features[: pools[-1]])).to(A.device)
    with torch.no_grad():
        B = up(A)
        pixels, features = F.mse_loss(B, H).item(), loss(B, H).item()
    if not (pixels > 0 and features > 0):
        raise CharregError(
            f"recogniser: its features of bicubic and HR faces differ by {features:g} (pixels: {pixels:g}), "
            "wanted a difference to scale the content loss by; look at the data and train_centreface"
        )
    loss.scale = pixels / (VGG_FACTOR * features)
    return loss
