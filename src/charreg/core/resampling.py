"""DS (x1/4) and UP (x4): antialiased bicubic, for stored faces (Pillow) and, differentiably, for losses (torch).

The two agree within one grey level. `antialias=True` also selects Pillow's cubic kernel (a = -0.5); without it
x1/4 skips pixels and gives another image domain altogether.
"""

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from charreg.core.faces import HR_SIZE, LR_SIZE


def resample(x: Tensor, size: int) -> Tensor:
    """[B, C, h, w] to [B, C, size, size], antialiased bicubic; not clamped, since clamping stops gradients."""
    return F.interpolate(x, size=(size, size), mode="bicubic", antialias=True, align_corners=False)


def ds(x: Tensor) -> Tensor:
    """DS: [B, 3, 64, 64] to [B, 3, 16, 16]."""
    return resample(x, LR_SIZE)


def ds_area(x: Tensor) -> Tensor:
    """DS by 4x4 averages, [B, 3, 64, 64] to [B, 3, 16, 16]."""
    return F.avg_pool2d(x, HR_SIZE // LR_SIZE)


def up(x: Tensor) -> Tensor:
    """UP: [B, 3, 16, 16] to [B, 3, 64, 64]."""
    return resample(x, HR_SIZE)


def resize_image(image: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """uint8 [h, w, 3] to uint8 [size, size, 3], Pillow BICUBIC: how stored artificial LR faces are made."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
