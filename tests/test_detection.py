"""MTCNN on enlarged pictures: the cascade, tiles, merging, squares and crops."""

import math
from collections.abc import Callable
from itertools import pairwise

import facenet_pytorch
import numpy as np
import pytest
import torch
from facenet_pytorch.models.utils.detect_face import detect_face
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.faces import Pixels
from charreg.core.params import DetectionOptions, Params
from charreg.photos import detection
from charreg.photos.crowds import find_portraits
from charreg.photos.detection import (
    DetectedFace,
    Square,
    crop_square,
    detect_faces,
    load_cascade,
    merge_faces,
    overlap_of,
    points_in_square,
    run_cascade,
    smallest_side,
    square_of,
    tile_spans,
)
from data_fixtures import portrait

THRESHOLDS = (0.5, 0.6, 0.6)


def board(faces: int, pitch: int = 60, side: int = 32) -> Pixels:
    """Portraits of `side` px on a grey board, four a row."""
    board = np.full((pitch * math.ceil(faces / 4), pitch * 4, 3), 110, np.uint8)
    for i, path in enumerate(path for paths in find_portraits().values() for path in paths[:1]):
        if i == faces:
            break
        with Image.open(path) as image:
            tile = np.asarray(image.convert("RGB").resize((side, round(side * 112 / 92)), Image.Resampling.BICUBIC))
        top, left = i // 4 * pitch + 8, i % 4 * pitch + 12
        board[top : top + tile.shape[0], left : left + side] = tile
    return board


@pytest.fixture
def params(toy_params: Params) -> DetectionOptions:
    return toy_params.detection


def a_face(left: float, top: float, side: float, score: float) -> DetectedFace:
    return DetectedFace(left, top, side, side, score, 1.0, np.zeros((5, 2)))


def detect_as_published(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and landmarks of facenet-pytorch's own cascade."""
    nets = load_cascade()
    boxes, points = detect_face(picture, 20, nets.p_net, nets.r_net, nets.o_net, list(THRESHOLDS), 0.709, "cpu")
    return np.array(boxes[0], dtype=float), np.array(points[0], dtype=float)


@pytest.mark.parametrize("person", ["s1", "s7", "s23", "crowd"])
def test_cascade_agrees_with_facenet_pytorch(person: str) -> None:
    portrait = board(8) if person == "crowd" else np.asarray(Image.open(find_portraits()[person][0]).convert("RGB"))
    picture = Image.fromarray(portrait)
    picture = picture.resize((round(picture.width * 2.5), round(picture.height * 2.5)), Image.Resampling.BICUBIC)
    ours, theirs = run_cascade(np.asarray(picture), 20, THRESHOLDS), detect_as_published(picture)
    assert len(ours[0]) >= (8 if person == "crowd" else 1)
    for mine, other in zip(ours, theirs, strict=True):
        order, other_order = np.lexsort(ours[0].T), np.lexsort(theirs[0].T)
        assert np.allclose(mine[order], other[other_order], atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (5, 5), (6, 6), (7, 7), (19, 400)])
def test_pictures_below_the_minimum_give_no_face(params: DetectionOptions, shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 90, np.uint8)
    assert detect_faces(picture, params) == []
    with pytest.raises((RuntimeError, ValueError)):  # what facenet-pytorch does there
        detect_as_published(Image.new("RGB", (5, 5)))


def test_pictures_without_faces_give_none(params: DetectionOptions) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for picture in (noise, np.zeros((60, 80, 3), np.uint8), np.full((60, 80, 3), 255, np.uint8)):
        assert [face for face in detect_faces(picture, params) if face.score >= 0.9] == []


def test_faces_are_found_where_they_are_at_every_scale(params: DetectionOptions) -> None:
    picture = board(8)
    for scales in ([2.0], [3.0], [1.5, 3.0]):
        found = detect_faces(picture, params.model_copy(update={"scales": scales}))
        sure = [face for face in found if face.score >= 0.9]
        cells = sorted((int((f.top + f.height / 2) // 60), int((f.left + f.width / 2) // 60)) for f in sure)
        assert cells == [(row, column) for row in range(2) for column in range(4)]
        for face in sure:
            assert 20 < face.longer_side < 40
            left_eye, right_eye, nose, *mouth = face.landmarks
            assert left_eye[0] < right_eye[0]
            assert left_eye[1] < nose[1] < mouth[0][1]
            assert face.left < nose[0] < face.left + face.width
    assert {face.scale for face in found} <= {1.5, 3.0}


def test_scores_are_ordered_and_threads_do_not_matter(params: DetectionOptions) -> None:
    picture = board(8)
    torch.set_num_threads(2)
    two = detect_faces(picture, params)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    one = detect_faces(picture, params)
    assert [(f.left, f.top, f.score) for f in one] == [(f.left, f.top, f.score) for f in two]
    assert [f.score for f in one] == sorted((f.score for f in one), reverse=True)


def test_tiles_find_the_same_faces_once(params: DetectionOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = board(12)
    whole = [face for face in detect_faces(picture, params) if face.score >= 0.9]
    monkeypatch.setattr(detection, "TILE", 360)
    monkeypatch.setattr(detection, "TILE_OVERLAP", 0.4)
    tiled = [face for face in detect_faces(picture, params) if face.score >= 0.9]
    assert len(whole) == len(tiled) == 12
    for face in whole:
        best = max(tiled, key=lambda other: overlap_of(detection.box_of(face), detection.box_of(other)))
        assert overlap_of(detection.box_of(face), detection.box_of(best)) > 0.7


@pytest.mark.parametrize(("length", "tile"), [(100, 100), (101, 100), (1000, 300), (7, 3)])
def test_tiles_cover_everything_and_overlap(length: int, tile: int) -> None:
    spans = tile_spans(length, tile)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    for (_, end), (begin, _) in pairwise(spans):
        assert end - begin >= math.floor(detection.TILE_OVERLAP * tile) - 1
        assert end > begin
    assert all(end - begin == min(tile, length) for begin, end in spans)


def test_merging_keeps_the_surest_of_overlapping_faces() -> None:
    faces = [a_face(0, 0, 10, 0.9), a_face(1, 1, 10, 0.95), a_face(20, 0, 10, 0.5), a_face(6, 0, 10, 0.7)]
    kept = merge_faces(faces, 0.4)
    assert [(face.left, face.score) for face in kept] == [(1, 0.95), (6, 0.7), (20, 0.5)]
    assert merge_faces(faces[::-1], 0.4) == kept
    assert merge_faces([], 0.4) == []
    assert overlap_of((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap_of((0, 0, 10, 10), (10, 0, 10, 10)) == 0


def test_candidates_outside_the_picture_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = torch.zeros(1, 3, 40, 50)
    boxes = torch.tensor(
        [[60.0, 60, 80, 80, 0.9], [-30, -30, -10, -10, 0.9], [10, 10, 30, 30, 0.9], [45, 5, 70, 30, 0.8]]
    )
    kept, spans = detection._candidates(picture, boxes)
    assert kept.tolist() == boxes[2:].tolist()
    assert detection._crops(picture, spans, 24).shape == (2, 3, 24, 24)
    assert detection._candidates(picture, boxes[:2])[1] == []


def test_square_has_the_margin_and_the_centre() -> None:
    face = DetectedFace(10, 20, 8, 10, 1.0, 3.0, np.zeros((5, 2)))
    assert square_of(face, 0.2) == Square(14, 25, 12)


def spot(x: float, y: float) -> Pixels:
    """A bright spot at photograph place (x, y), px from the upper left corner."""
    rows, columns = np.mgrid[0:112, 0:92] + 0.5
    grey = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 32)
    return np.repeat(grey.round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("roll", [0.0, 10.0, -25.0])
@pytest.mark.parametrize(("size", "side"), [(30, 60.0), (64, 60.5), (64, 90.0)])
def test_crops_and_points_agree(size: int, side: float, roll: float) -> None:
    square = Square(46.2, 58.1, side, roll)
    crop = crop_square(spot(50.3, 60.8), square, size)[..., 0].astype(float)
    rows, columns = np.mgrid[0:size, 0:size] + 0.5
    found = [(crop * columns).sum() / crop.sum(), (crop * rows).sum() / crop.sum()]
    assert found == pytest.approx(points_in_square(np.array([[50.3, 60.8]]), square, size)[0].tolist(), abs=0.1)


def test_crop_is_pillows_bicubic_inside_and_replicates_edges() -> None:
    pixels = portrait()
    inside = crop_square(pixels, Square(46, 50, 64), 16)
    expected = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BICUBIC, box=(14, 18, 78, 82))
    assert np.array_equal(inside, np.asarray(expected))
    ramp = np.tile(np.arange(0, 200, 10, dtype=np.uint8)[:, None, None], (1, 20, 3))
    beyond = crop_square(ramp, Square(10, -20, 20), 20)
    assert (beyond == 0).all()  # the first row, again and again; black padding would do as well, so the other end too
    assert (crop_square(ramp, Square(10, 40, 20), 20) == 190).all()


def test_smallest_side(params: DetectionOptions) -> None:
    assert smallest_side(params) == 7  # 20 px after an enlargement of 3
    assert smallest_side(params.model_copy(update={"scales": [1.0, 0.5]})) == 20


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("facenet")
    monkeypatch.setattr(facenet_pytorch, "__file__", str(folder / "__init__.py"))
    fresh: Callable[[], object] = load_cascade.__wrapped__
    with pytest.raises(CharregError, match=r"pnet\.pt: .*wanted the MTCNN weights"):
        fresh()
