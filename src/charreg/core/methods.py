"""A method: 16x16 faces in, 64x64 faces out. Peers, ablations and CR are all built from model folders."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import HR_SIZE, LR_SIZE, FaceSet, FaceWriter, digest_of_faces
from charreg.core.models import load_model
from charreg.core.resampling import up
from charreg.core.tensors import to_images, to_tensor

Domain = Literal["genuine", "artificial"]


@dataclass(frozen=True)
class Method:
    """phi_sr after phi_cr where there is one; bicubic where there is no network at all."""

    phi_sr: nn.Module | None
    phi_cr: nn.Module | None
    label: str = ""  # of its rows in the report, where a training named one
    strength: float = 1.0  # of the regulariser, 0 (none) to 1 (as trained)

    def regulate(self, lr: Tensor, domain: Domain) -> Tensor | None:
        """R = G + strength (phi_cr(G) - G) for genuine faces [B, 3, 16, 16]; None where there is no such step.

        Artificial faces skip phi_cr: they already are what it produces (the paper's deployment on Helen).
        """
        if self.phi_cr is None or domain == "artificial" or not self.strength:
            return None
        R: Tensor = self.phi_cr(lr)
        return R if self.strength == 1 else lr + self.strength * (R - lr)

    def enlarge(self, lr: Tensor) -> Tensor:
        """phi_sr, or UP without one: [B, 3, 16, 16] to [B, 3, 64, 64]."""
        return up(lr) if self.phi_sr is None else self.phi_sr(lr)

    def super_resolve(self, lr: Tensor, domain: Domain) -> Tensor:
        """[B, 3, 16, 16] in [-1, 1] to [B, 3, 64, 64]; not clamped."""
        regulated = self.regulate(lr, domain)
        return self.enlarge(lr if regulated is None else regulated)


def load_method(folder: Path, device: torch.device) -> Method:
    """The method of a model folder. Raises CharregError when the folder holds no method."""
    model = load_model(folder)
    networks = model.networks
    if networks and "super_resolver" not in networks:
        raise CharregError(f"{folder}: found networks {', '.join(networks)}, wanted a super_resolver among them")
    names = ("super_resolver", "regulariser")
    phi_sr, phi_cr = (networks[name].to(device).eval() if name in networks else None for name in names)
    return Method(phi_sr, phi_cr, str(model.info.get("label", "")))


@torch.no_grad()
def resolve_images(
    method: Method, lr: npt.NDArray[np.uint8], domain: Domain, device: torch.device
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """uint8 [B, 16, 16, 3] to uint8 [B, 64, 64, 3] and, where phi_cr ran, the regulated uint8 [B, 16, 16, 3]."""
    x = to_tensor(lr).to(device)
    regulated = method.regulate(x, domain)
    S = method.enlarge(x if regulated is None else regulated)
    return to_images(S), None if regulated is None else to_images(regulated)


def resolve_faces(method: Method, faces: FaceSet, out: Path, name: str, device: torch.device, batch: int = 64) -> None:
    """Write the super-resolved faces of a set as FaceSet `out/name`, and where phi_cr ran `out/name_regulated`.

    HR sets give their artificial LR faces, LR sets their images; the set's domain decides on phi_cr.
    """
    lr = faces.images if faces.lr is None else faces.lr
    domain: Domain = "artificial" if faces.meta.get("domain") == "artificial" else "genuine"
    rows = [
        {str(key): value for key, value in row.items()}
        for row in faces.index.astype(object).fillna("").to_dict("records")
    ]
    with contextlib.ExitStack() as stack:
        writers = []
        for folder, size in ((name, HR_SIZE), (f"{name}_regulated", LR_SIZE)):
            if folder == name or (method.phi_cr is not None and domain == "genuine"):
                (out / folder).mkdir()
                writers.append(stack.enter_context(FaceWriter(out / folder, size)))
                writers[-1].notes = {"domain": domain, "of": digest_of_faces(faces)}
                writers[-1].notes |= {"label": method.label} if method.label else {}
        for start in range(0, len(lr), batch):
            results = resolve_images(method, lr[start : start + batch], domain, device)
            for writer, images in zip(writers, results, strict=False):
                assert images is not None
                for image, row in zip(images, rows[start : start + batch], strict=True):
                    writer.add(image, row)
