"""Faces in photographs: MTCNN on enlarged pictures. The only file that knows facenet-pytorch.

Zhang et al. 2016; networks and weights of facenet-pytorch 2.5.3 (they lie in its wheel). The cascade is written out
here after its `detect_face`, because that one raises where no pyramid level fits and where a candidate lies wholly
outside the picture, and is half as fast; tests/test_detection.py compares the two.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import facenet_pytorch
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from PIL import Image
from torch import nn
from torchvision.ops import nms

from charreg.core.errors import CharregError
from charreg.core.faces import Pixels
from charreg.core.params import DetectionOptions

PYRAMID_STEP = 0.709  # facenet-pytorch's default: halves the area
CELL = 12  # px P-net sees
BATCH = 512  # candidates at a time, so that a crowd does not fill the memory
TILE, TILE_OVERLAP = 2048, 0.25  # px of the enlarged picture, for the same reason; share of a tile
MERGE_IOU = 0.4  # of two faces, found at several scales or in several tiles, that are one
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DetectedFace:
    """A face in photograph pixels; landmarks [5, 2] in the order of `faces.LANDMARKS`."""

    left: float
    top: float
    width: float
    height: float
    score: float
    scale: float  # the enlargement it was found at
    landmarks: Points

    @property
    def longer_side(self) -> float:
        return max(self.width, self.height)


@dataclass(frozen=True)
class Square:
    """A square of the photograph, px; rolled clockwise about its centre by `roll` degrees."""

    x: float  # centre
    y: float
    side: float
    roll: float = 0.0


@dataclass(frozen=True)
class Cascade:
    p_net: PNet
    r_net: RNet
    o_net: ONet


class QuickMaxPool(nn.MaxPool2d):
    """Max pooling with channels last: quicker on a CPU, and the same values; the rest stays channels first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = super().forward(x.contiguous(memory_format=torch.channels_last))
        return pooled.contiguous()


@cache
def load_cascade() -> Cascade:
    """The three networks with the weights of the facenet-pytorch wheel. Raises CharregError."""
    folder = Path(facenet_pytorch.__file__).parent / "data"
    networks = []
    for network, name in ((PNet, "pnet.pt"), (RNet, "rnet.pt"), (ONet, "onet.pt")):
        module = network(pretrained=False)
        try:
            module.load_state_dict(torch.load(folder / name, map_location="cpu", weights_only=True))
        except Exception as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            raise CharregError(
                f"{folder / name}: {first_line}; wanted the MTCNN weights, install facenet-pytorch==2.5.3 again"
            ) from None
        for place, layer in list(module.named_children()):
            if isinstance(layer, nn.MaxPool2d):
                setattr(module, place, QuickMaxPool(layer.kernel_size, layer.stride, ceil_mode=layer.ceil_mode))
        networks.append(module.eval().requires_grad_(False))
    return Cascade(*networks)


def smallest_side(params: DetectionOptions) -> int:
    """The smallest side, px, a photograph may have so that any face fits."""
    return max(1, math.ceil(params.min_face / max(params.scales)))


def detect_faces(
    pixels: Pixels, params: DetectionOptions, over_tiles: Callable[..., Iterable[list[DetectedFace]]] = map
) -> list[DetectedFace]:
    """All faces of a photograph, uint8 [H, W, 3] RGB, most probable first.

    Every tile runs on one thread, so that the result does not depend on how many workers there are; `over_tiles` may
    map over tiles in several (`ThreadPoolExecutor.map`).
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = [face for scale in params.scales for face in _detect_at(pixels, scale, params, over_tiles)]
    finally:
        torch.set_num_threads(threads)
    height, width = pixels.shape[:2]
    inside = [face for face in found if 0 <= _x(face) < width and 0 <= _y(face) < height]
    return merge_faces(inside, MERGE_IOU)


def _x(face: DetectedFace) -> float:
    return face.left + face.width / 2


def _y(face: DetectedFace) -> float:
    return face.top + face.height / 2


def _detect_at(
    pixels: Pixels, scale: float, params: DetectionOptions, over_tiles: Callable[..., Iterable[list[DetectedFace]]]
) -> Iterator[DetectedFace]:
    """Faces found when the photograph is enlarged bicubically by `scale`; tiles are enlarged one at a time."""
    height, width = pixels.shape[:2]
    tile = max(1, int(TILE / scale))  # px of the photograph

    def detect_in(spans: tuple[tuple[int, int], tuple[int, int]]) -> list[DetectedFace]:
        (left, right), (top, bottom) = spans
        size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
        part = Image.fromarray(pixels[top:bottom, left:right]).resize(size, Image.Resampling.BICUBIC)
        boxes, landmarks = run_cascade(np.asarray(part), params.min_face, params.thresholds)
        found = []
        for (*corners, score), points in zip(boxes.tolist(), landmarks, strict=True):
            x0, y0, x1, y1 = (value / scale for value in corners)
            if x1 > x0 and y1 > y0:
                shifted = points / scale + np.array([left, top])
                found.append(DetectedFace(x0 + left, y0 + top, x1 - x0, y1 - y0, score, scale, shifted))
        return found

    tiles = [(columns, rows) for columns in tile_spans(width, tile) for rows in tile_spans(height, tile)]
    for found in over_tiles(detect_in, tiles):
        yield from found


def tile_spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Begin and end of the tiles that cover `length` px, neighbours sharing at least TILE_OVERLAP of a tile."""
    if length <= tile:
        return [(0, length)]
    step = max(1, int(tile * (1 - TILE_OVERLAP)))
    count = math.ceil((length - tile) / step) + 1
    begins = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    return [(begin, begin + tile) for begin in begins]


def overlap_of(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes (left, top, width, height)."""
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    return wide * high / (a[2] * a[3] + b[2] * b[3] - wide * high)


def box_of(face: DetectedFace) -> tuple[float, float, float, float]:
    return face.left, face.top, face.width, face.height


def merge_faces(faces: list[DetectedFace], iou: float) -> list[DetectedFace]:
    """Non-maximum suppression over scales and tiles: of faces that overlap by more than `iou` the surest stays."""
    ordered = sorted(faces, key=lambda face: (-face.score, face.top, face.left))
    rows = [(face.left, face.top, face.left + face.width, face.top + face.height, face.score) for face in ordered]
    return [ordered[i] for i in _surest(torch.tensor(rows, dtype=torch.float64).reshape(-1, 5), iou).tolist()]


# --- squares and crops -----------------------------------------------------------------------------------


def square_of(face: DetectedFace, margin: float) -> Square:
    """The square every set of faces is cropped to: same centre, (1 + margin) times the longer side."""
    return Square(_x(face), _y(face), face.longer_side * (1 + margin))


def crop_square(pixels: Pixels, square: Square, size: int) -> Pixels:
    """Cut a square and resize it by Pillow's (antialiased) BICUBIC to uint8 [size, size, 3]; edges are replicated."""
    height, width = pixels.shape[:2]
    if width == height and square == Square(width / 2, height / 2, width):  # a ready crop has nothing beyond its edges
        return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))
    reach = square.side * (0.5 if not square.roll else math.sqrt(0.5)) + 4 * max(1.0, square.side / size) + 2
    left, top = math.floor(square.x - reach), math.floor(square.y - reach)
    right, bottom = math.ceil(square.x + reach), math.ceil(square.y + reach)
    if left >= 0 and top >= 0 and right <= width and bottom <= height:
        image = Image.fromarray(pixels[top:bottom, left:right])
    else:
        rows = np.clip(np.arange(top, bottom), 0, height - 1)
        columns = np.clip(np.arange(left, right), 0, width - 1)
        image = Image.fromarray(pixels[rows].take(columns, axis=1))  # quicker than both at once
    x, y, half = square.x - left, square.y - top, square.side / 2
    if square.roll:
        image = image.rotate(square.roll, Image.Resampling.BICUBIC, center=(x, y))
    box = (x - half, y - half, x + half, y + half)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def points_in_square(points: Points, square: Square, size: int) -> Points:
    """Photograph px [K, 2] -> px of the crop that `crop_square` makes."""
    angle = math.radians(square.roll)
    x, y = points[:, 0] - square.x, points[:, 1] - square.y
    turned = np.stack([x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)], axis=1)
    return (turned / square.side + 0.5) * size


# --- the cascade -----------------------------------------------------------------------------------------


def run_cascade(pixels: Pixels, min_face: int, thresholds: tuple[float, float, float]) -> tuple[Points, Points]:
    """MTCNN on one picture, uint8 [H, W, 3]: boxes [K, 5] (left, top, right, bottom, score) and landmarks [K, 5, 2]."""
    cascade = load_cascade()
    image = torch.from_numpy(np.array(pixels, dtype=np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        boxes = _propose(image, cascade.p_net, min_face, thresholds[0])
        boxes = _refine(image, boxes, cascade.r_net, thresholds[1])
        boxes, landmarks = _locate(image, boxes, cascade.o_net, thresholds[2])
    return boxes.double().numpy(), landmarks.double().numpy()


def _normalised(image: torch.Tensor) -> torch.Tensor:
    return (image - 127.5) * 0.0078125


def _propose(image: torch.Tensor, p_net: PNet, min_face: int, threshold: float) -> torch.Tensor:
    """Squares [K, 5] that P-net proposes over an image pyramid."""
    height, width = image.shape[2:]
    scale = CELL / min_face
    levels = []
    while min(height, width) * scale >= CELL:
        level = F.interpolate(image, size=(int(height * scale + 1), int(width * scale + 1)), mode="area")
        shift, probability = p_net(_normalised(level))
        levels.append(_windows(shift[0], probability[0, 1], scale, threshold))
        scale *= PYRAMID_STEP
    if not levels:
        return torch.zeros(0, 5)
    windows = torch.cat(levels)
    windows = windows[_surest(windows, 0.7)]
    size = windows[:, 2:4] - windows[:, :2]
    corners = windows[:, :4] + windows[:, 5:9] * torch.cat([size, size], dim=1)
    return _squared(torch.cat([corners, windows[:, 4:5]], dim=1))


def _windows(shift: torch.Tensor, probability: torch.Tensor, scale: float, threshold: float) -> torch.Tensor:
    """Windows [K, 9] above the threshold: left, top, right, bottom, score and four regressed shifts."""
    cells = (probability >= threshold).nonzero()
    corner = cells.flip(1).float() * 2  # P-net's stride
    score = probability[cells[:, 0], cells[:, 1]]
    boxes = torch.cat([((corner + 1) / scale).floor(), ((corner + CELL) / scale).floor()], dim=1)
    windows = torch.cat([boxes, score[:, None], shift[:, cells[:, 0], cells[:, 1]].T], dim=1)
    return windows[_surest(windows, 0.5)]


def _surest(boxes: torch.Tensor, iou: float) -> torch.Tensor:
    """Indices that non-maximum suppression keeps, most probable first."""
    kept: torch.Tensor = nms(boxes[:, :4], boxes[:, 4], iou)
    return kept


def _squared(boxes: torch.Tensor) -> torch.Tensor:
    size = boxes[:, 2:4] - boxes[:, :2]
    side = size.amax(dim=1, keepdim=True)
    corner = boxes[:, :2] + (size - side) * 0.5
    return torch.cat([corner, corner + side, boxes[:, 4:]], dim=1)


def _refine(image: torch.Tensor, boxes: torch.Tensor, r_net: RNet, threshold: float) -> torch.Tensor:
    """Squares [K, 5] of the candidates that R-net keeps."""
    boxes, moved, _ = _passed(image, boxes, r_net, 24, threshold)
    return _squared(moved[_surest(boxes, 0.7)])


def _locate(
    image: torch.Tensor, boxes: torch.Tensor, o_net: ONet, threshold: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes [K, 5] and landmarks [K, 5, 2] of the candidates that O-net keeps."""
    boxes, moved, relative = _passed(image, boxes, o_net, 48, threshold)
    landmarks = torch.stack([relative[:, :5], relative[:, 5:]], dim=2)
    landmarks = landmarks * _extent(boxes)[:, None] + boxes[:, None, :2] - 1
    keep = _suppress_contained(moved, 0.7)
    return moved[keep], landmarks[keep]


def _passed(
    image: torch.Tensor, boxes: torch.Tensor, network: RNet | ONet, size: int, threshold: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Candidates above the threshold: as they were, moved by the regression, and O-net's landmarks [K, 10]."""
    boxes, spans = _candidates(image, boxes)
    if not spans:
        return torch.zeros(0, 5), torch.zeros(0, 5), torch.zeros(0, 10)
    batches = (spans[begin : begin + BATCH] for begin in range(0, len(spans), BATCH))
    parts = [network(_normalised(_crops(image, batch, size))) for batch in batches]
    shift, *landmarks, probabilities = (torch.cat(column) for column in zip(*parts, strict=True))
    probability = probabilities[:, 1]
    passed = probability > threshold
    boxes = torch.cat([boxes[:, :4], probability[:, None]], dim=1)[passed]
    extent = _extent(boxes)
    moved = torch.cat([boxes[:, :4] + shift[passed] * torch.cat([extent, extent], dim=1), boxes[:, 4:]], dim=1)
    return boxes, moved, landmarks[0][passed] if landmarks else torch.zeros(len(boxes), 0)


def _extent(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[:, 2:4] - boxes[:, :2] + 1


def _candidates(image: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, list[list[int]]]:
    """Candidates with some area inside the picture, and that area: left, top, right, bottom."""
    height, width = image.shape[2:]
    whole = boxes[:, :4].trunc().long()
    first = whole[:, :2].clamp(min=1) - 1
    last = torch.minimum(whole[:, 2:4], torch.tensor([width, height]))
    inside = (last > first).all(dim=1)
    return boxes[inside], torch.cat([first, last], dim=1)[inside].tolist()


def _crops(image: torch.Tensor, spans: list[list[int]], size: int) -> torch.Tensor:
    """Parts of the picture as [K, 3, size, size]."""
    parts = (image[:, :, top:bottom, left:right] for left, top, right, bottom in spans)
    return torch.cat([F.interpolate(part, size=(size, size), mode="area") for part in parts])


def _suppress_contained(boxes: torch.Tensor, share: float) -> list[int]:
    """Indices kept, most probable first; a box overlapping a kept one by `share` of the smaller of the two goes."""
    corners = boxes[:, :4].numpy()
    area = (corners[:, 2] - corners[:, 0] + 1) * (corners[:, 3] - corners[:, 1] + 1)
    order = list(np.argsort(-boxes[:, 4].numpy(), kind="stable"))
    kept: list[int] = []
    while order:
        best, rest = order[0], np.array(order[1:], dtype=np.int64)
        kept.append(int(best))
        low = np.maximum(corners[best, :2], corners[rest, :2])
        high = np.minimum(corners[best, 2:], corners[rest, 2:])
        common = np.clip(high - low + 1, 0, None).prod(axis=1)
        order = list(rest[common / np.minimum(area[best], area[rest]) <= share])
    return kept
