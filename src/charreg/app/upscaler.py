"""Photographs in, photographs out, in memory: find small faces, regularise and super-resolve them, paste them back."""

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
import torch
from PIL import Image
from torch import nn

from charreg.app.pasting import enlarge_photograph, in_grey, is_grey, paste_face
from charreg.core.errors import CharregError
from charreg.core.faces import HR_SIZE, LR_SIZE, Pixels
from charreg.core.methods import Method, load_method, resolve_images
from charreg.core.params import DetectionOptions
from charreg.core.resampling import resize_image
from charreg.core.tensors import compute_device
from charreg.photos.detection import DetectedFace, crop_square, detect_faces, square_of
from charreg.photos.framing import whole_square
from charreg.photos.images import RejectedImage, read_picture

RELEASED = Path(__file__).parents[1] / "released"
DEFAULT_MODEL = RELEASED / "cr"
MAX_PIXELS = 100_000_000
MARGIN = 0.2  # of the square around a face's box, as the pipeline cuts its training faces
LARGEST_FACE = 48.0  # px; a larger face loses more than it gains by passing through 16x16
SMALLEST_CROP = 4  # px
MIN_FACE = 20  # px MTCNN sees in the enlarged photograph
MOST_ENLARGED, LARGEST_SCALE = 12_000_000, 2.5  # px and times
SCALES = (1, 2, 4)
CACHED = 8  # faces at a time on a CPU: a fifth quicker than 64
Runtime = Literal["torch", "onnx"]


class Network(Protocol):
    """What resolves faces: torch, or a graph in onnxruntime."""

    def __call__(self, lr: Pixels, strength: float) -> tuple[Pixels, Pixels]:
        """uint8 [N, 16, 16, 3] to the regulated [N, 16, 16, 3] and the resolved [N, 64, 64, 3]."""
        ...


def folded(network: nn.Module | None) -> nn.Module | None:
    """The same network with every PReLU of one slope as a leaky ReLU, which is quicker and gives the same."""
    for module in network.modules() if network is not None else ():
        for name, layer in module.named_children():
            if isinstance(layer, nn.PReLU) and layer.num_parameters == 1:
                setattr(module, name, nn.LeakyReLU(layer.weight.item()))
    return network


@dataclass(frozen=True)
class TorchNetwork:
    """A method on a torch device; a CPU takes a few faces at a time, whose maps stay in its cache."""

    method: Method
    device: torch.device

    def __call__(self, lr: Pixels, strength: float) -> tuple[Pixels, Pixels]:
        method, step = replace(self.method, strength=strength), CACHED if self.device.type == "cpu" else len(lr)
        parts = [resolve_images(method, lr[i : i + step], "genuine", self.device) for i in range(0, len(lr), step)]
        resolved, regulated = zip(*parts, strict=True)
        return (lr if regulated[0] is None else np.concatenate(regulated)), np.concatenate(resolved)


@dataclass(frozen=True)
class Face:
    """A super-resolved face of a photograph.

    box: left, top, width, height, px of the photograph; score: the detector's, 0 to 1; genuine and regulated: uint8
    [16, 16, 3]; resolved: uint8 [64, 64, 3], in the model's own colours.
    """

    box: tuple[float, float, float, float]
    score: float
    genuine: Pixels
    regulated: Pixels
    resolved: Pixels

    @property
    def side(self) -> float:
        """The longer side of the box, px."""
        return max(self.box[2:])


@dataclass(frozen=True)
class Resolved:
    """Face crops after the networks: regulated uint8 [N, 16, 16, 3] and resolved uint8 [N, 64, 64, 3]."""

    genuine: Pixels
    regulated: Pixels
    resolved: Pixels


@dataclass(frozen=True)
class Result:
    """An enlarged photograph, the faces that were resolved in it, and how many were left alone, by reason."""

    image: Image.Image
    faces: list[Face]
    left_alone: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class SmallFaces:
    """The small faces of a photograph, surest first; their crops, uint8 [N, 16, 16, 3]; how many were left alone."""

    faces: list[DetectedFace]
    crops: Pixels
    left_alone: Counter[str]


def scale_for(pixels: int) -> float:
    """How much a photograph of so many pixels is enlarged for the detector: 2.5 times, large ones less, none shrunk."""
    return min(LARGEST_SCALE, max(1.0, math.sqrt(MOST_ENLARGED / max(1, pixels))))


def find_small_faces(
    pixels: Pixels, sides: tuple[float, float] = (8, 32), min_score: float = 0.9, workers: int = 1
) -> SmallFaces:
    """The faces of a photograph, uint8 [H, W, 3], whose longer side lies within `sides`, px.

    workers: threads that look at parts of a large photograph at the same time; the faces are the same for any number.
    """
    height, width = pixels.shape[:2]
    options = DetectionOptions(
        scales=[scale_for(height * width)], min_face=MIN_FACE, thresholds=(0.6, 0.7, 0.7), margin=MARGIN,
        max_pixels=MAX_PIXELS,
    )  # fmt: skip
    kept, left_alone = [], Counter[str]()
    with ThreadPoolExecutor(workers) as pool:
        found = detect_faces(pixels, options, pool.map if workers > 1 else map)
    for face in found:
        if face.score < min_score:
            left_alone["score"] += 1
        elif face.longer_side > sides[1]:
            left_alone["face_too_large"] += 1
        elif face.longer_side < sides[0]:
            left_alone["face_too_small"] += 1
        else:
            kept.append(face)
    crops = [crop_square(pixels, square_of(face, MARGIN), LR_SIZE) for face in kept]
    return SmallFaces(kept, np.array(crops, np.uint8).reshape(-1, LR_SIZE, LR_SIZE, 3), left_alone)


def crop_of_face(pixels: Pixels) -> Pixels:
    """A picture that is the square of one face, uint8 [h, w, 3], as uint8 [16, 16, 3].

    Raises RejectedImage: `not_framed` where it is not square within a tenth, `face_too_small` below 4 px,
    `face_too_large` above 48 px: enlarged already, or large enough.
    """
    square = whole_square(pixels)
    if min(pixels.shape[:2]) < SMALLEST_CROP:
        raise RejectedImage("face_too_small")
    if square is None:
        raise RejectedImage("not_framed")
    if max(pixels.shape[:2]) > LARGEST_FACE:
        raise RejectedImage("face_too_large")
    return crop_square(pixels, square, LR_SIZE)


class Upscaler:
    """Super-resolves photographs and face crops with one model.

    strength: how far the regulariser changes a face before it is super-resolved, 0 (not at all) to 1 (as trained).
    """

    def __init__(self, network: Network, strength: float, batch: int = 64) -> None:
        if not 0 <= strength <= 1:
            raise CharregError(f"strength: found {strength:g}, wanted a number from 0 to 1")
        self.network, self.strength, self.batch = network, strength, batch

    def __call__(
        self,
        image: Image.Image | Pixels | Path | str,
        *,
        faces: tuple[float, float] = (8, 32),
        scale: int = 4,
        keep_model_colours: bool = False,
    ) -> Result:
        """Find the small faces of a photograph, resolve them and paste them into the photograph enlarged `scale` times.

        image: a PIL image, uint8 [H, W, 3] or [H, W], or the path of a picture. faces: shortest and longest side of the
        faces that are resolved, px, at most 48. scale: 1, 2 or 4. Raises CharregError for what is no picture and for
        options out of range.
        """
        check_options(faces, scale)
        pixels = pixels_of(image)
        small = find_small_faces(pixels, faces, workers=torch.get_num_threads())
        resolved = self.faces(small.crops)
        enlarged = enlarge_photograph(pixels, scale)
        return paste_all(pixels, enlarged, small, resolved, scale, keep_model_colours)

    def faces(self, crops: Sequence[Pixels] | Pixels) -> Resolved:
        """Resolve face crops, uint8 [N, h, w, 3]; what is not 16x16 is made so by Pillow's BICUBIC first.

        A crop is the square of one face, 1.2 times the longer side of its box; one without colours stays so. Raises
        CharregError for another shape.
        """
        lr = np.array([_as_lr(crop) for crop in crops], np.uint8).reshape(-1, LR_SIZE, LR_SIZE, 3)
        parts = [self.network(lr[i : i + self.batch], self.strength) for i in range(0, len(lr), self.batch)]
        regulated, resolved = (
            np.concatenate([np.zeros((0, side, side, 3), np.uint8), *(part[i] for part in parts)])
            for i, side in enumerate((LR_SIZE, HR_SIZE))
        )
        for i in (i for i, face in enumerate(lr) if is_grey(face)):
            regulated[i], resolved[i] = in_grey(regulated[i]), in_grey(resolved[i])
        return Resolved(lr, regulated, resolved)

    @classmethod
    def load(
        cls, model: Path | str | None = None, *, device: str = "auto", strength: float | None = None,
        runtime: Runtime = "torch",
    ) -> Self:  # fmt: skip
        """The shipped model, a model folder of the pipeline, or (runtime onnx) a graph that `charreg export` wrote.

        device: auto, cpu, cuda or cuda:N. strength: None takes the model's own. Raises CharregError.
        """
        folder = Path(model) if model is not None else DEFAULT_MODEL
        if runtime == "onnx" or folder.suffix == ".onnx":
            from charreg.app.onnx_graph import OnnxNetwork

            graph = OnnxNetwork.load(folder)
            return cls(graph, graph.strength if strength is None else strength)
        where = compute_device(device)
        method, own = load_method(folder, where), default_strength(folder)
        method = replace(method, phi_sr=folded(method.phi_sr), phi_cr=folded(method.phi_cr))
        return cls(TorchNetwork(method, where), own if strength is None else strength)


def default_strength(folder: Path) -> float:
    """The strength model.json recommends; 1, as trained, where it does not."""
    from charreg.core.models import load_model

    return float(load_model(folder).info.get("strength", 1.0))


def check_options(faces: tuple[float, float], scale: int) -> None:
    """Raises CharregError for a range of faces or a scale that makes no sense."""
    if not 0 < faces[0] <= faces[1] <= LARGEST_FACE:
        raise CharregError(
            f"faces: found {faces[0]:g}-{faces[1]:g}, wanted two sides in px, smaller first, {LARGEST_FACE:g} at most"
        )
    if scale not in SCALES:
        raise CharregError(f"scale: found {scale}, wanted {', '.join(map(str, SCALES[:-1]))} or {SCALES[-1]}")


def pixels_of(image: Image.Image | Pixels | Path | str) -> Pixels:
    """A picture as uint8 [H, W, 3]. Raises CharregError."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, Path | str):
        try:
            return read_picture(Path(image), MAX_PIXELS).pixels
        except RejectedImage as fault:
            raise CharregError(f"{image}: {fault.reason}, wanted a picture") from None
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise CharregError(f"image: found {image.dtype} {list(image.shape)}, wanted uint8 [H, W, 3] or [H, W]")
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def _as_lr(crop: Pixels) -> Pixels:
    if crop.dtype != np.uint8 or crop.ndim != 3 or crop.shape[2] != 3 or not crop.size:
        raise CharregError(f"crops: found {crop.dtype} {list(crop.shape)}, wanted uint8 [h, w, 3]")
    return crop if crop.shape[:2] == (LR_SIZE, LR_SIZE) else resize_image(crop, LR_SIZE)


def paste_all(
    pixels: Pixels, enlarged: Image.Image, small: SmallFaces, resolved: Resolved, scale: int, keep_model_colours: bool
) -> Result:
    """Paste resolved faces into the enlarged photograph (in place), the surest last; grey photographs stay grey."""
    grey = is_grey(pixels)
    for face, genuine, S in reversed(list(zip(small.faces, resolved.genuine, resolved.resolved, strict=True))):
        paste_face(enlarged, S, genuine, square_of(face, MARGIN), scale, keep_model_colours, grey)
    faces = [
        Face((face.left, face.top, face.width, face.height), face.score, *three)
        for face, *three in zip(small.faces, resolved.genuine, resolved.regulated, resolved.resolved, strict=True)
    ]
    return Result(enlarged, faces, small.left_alone)
