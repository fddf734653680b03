"""FaceSet: what the writer writes is what the reader accepts, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.format import write_array

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet, FaceWriter, digest_of_faces, open_faces
from charreg.core.files import sha256_of_file
from conftest import draw_hr_faces


def resign(folder: Path, name: str) -> None:
    """Let meta.json name the digest the file has now."""
    meta = json.loads((folder / "meta.json").read_text())
    meta["sha256"][name] = sha256_of_file(folder / name)
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.fixture
def faces(tmp_path: Path) -> FaceSet:
    return draw_hr_faces(tmp_path / "faces", people=2, photos=2)


def test_round_trip(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    with FaceWriter(tmp_path, 16) as writer:
        for i, image in enumerate(images):
            row = {"photo": f"ä,{i}.jpg", "identity": "007" if i else "", "score": 0.5, "box_left": float("nan")}
            writer.add(image, row)
        writer.reject("score", 2)
    faces = open_faces(tmp_path)
    assert np.array_equal(faces.images, images)
    assert faces.lr is None
    assert faces.identities == ["", "007", "007"]
    assert faces.index["photo"].tolist() == ["ä,0.jpg", "ä,1.jpg", "ä,2.jpg"]
    assert faces.index["box_left"].isna().all()
    assert faces.meta["rejections"] == {"score": 2}


def test_people_with_few_portraits_are_nobody(tmp_path: Path) -> None:
    """Two crops of one portrait are one portrait; the same name in another source is another portrait."""
    with FaceWriter(tmp_path, 16) as writer:
        for source, photo, name in (*["a1x"] * 2, "a2y", "b2y", "a4z", "a5z", "a6z"):
            row = {"source": source, "photo": photo, "identity": name}
            writer.add(np.zeros((16, 16, 3), np.uint8), row)
        writer.add(np.zeros((16, 16, 3), np.uint8), {"source": "a", "photo": "7", "identity": ""})
    faces = open_faces(tmp_path)
    assert faces.people() == faces.identities == [*"xxyyzzz", ""]
    assert faces.people(2) == ["", "", *"yyzzz", ""]
    assert faces.people(3) == [*[""] * 4, *"zzz", ""]


@pytest.mark.parametrize("name", ["NA", "None", "null", "nan", "N/A", "", "-inf", "1e5", "007"])
def test_names_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    """pandas reads a person called None as nobody unless told otherwise."""
    with FaceWriter(tmp_path, 16) as writer:
        writer.add(np.zeros((16, 16, 3), np.uint8), {"photo": name, "identity": name, "album": name, "score": 0.5})
    faces = open_faces(tmp_path)
    assert faces.identities == [name]
    assert faces.index[["photo", "album"]].iloc[0].tolist() == [name, name]
    assert faces.index["score"].tolist() == [0.5]
    assert faces.index["left_eye_x"].isna().all()


def test_empty_set_is_valid(tmp_path: Path) -> None:
    with FaceWriter(tmp_path, 64, 16):
        pass
    faces = open_faces(tmp_path)
    assert (len(faces), faces.images.shape) == (0, (0, 64, 64, 3))
    assert faces.lr is not None
    assert faces.lr.shape == (0, 16, 16, 3)
    assert faces.identities == []


@pytest.mark.parametrize("name", ["images.npy", "lr.npy", "index.csv"])
def test_a_flipped_byte_is_refused_by_digest(faces: FaceSet, name: str) -> None:
    path = faces.folder / name
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CharregError, match=f"{name}: sha256 [0-9a-f]{{12}}, wanted [0-9a-f]{{12}}; damaged"):
        open_faces(faces.folder)


def test_a_short_array_is_refused_even_with_a_fitting_digest(faces: FaceSet) -> None:
    path = faces.folder / "images.npy"
    path.write_bytes(path.read_bytes()[:-100])
    resign(faces.folder, "images.npy")
    with pytest.raises(CharregError, match=r"images\.npy: .*wanted a uint8 array \(4, 64, 64, 3\)"):
        open_faces(faces.folder)


@pytest.mark.parametrize("array", [np.zeros((4, 32, 32, 3), np.uint8), np.zeros((4, 64, 64, 3), np.int8)])
def test_another_shape_or_type_is_refused(faces: FaceSet, array: np.ndarray) -> None:
    with open(faces.folder / "images.npy", "wb") as file:
        write_array(file, array)
    resign(faces.folder, "images.npy")
    with pytest.raises(CharregError, match=r"images\.npy: found .*, wanted uint8 \(4, 64, 64, 3\)"):
        open_faces(faces.folder)


def test_a_pickle_is_not_loaded(faces: FaceSet) -> None:
    with open(faces.folder / "images.npy", "wb") as file:
        write_array(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    resign(faces.folder, "images.npy")
    with pytest.raises(CharregError, match=r"images\.npy"):
        open_faces(faces.folder)


def test_a_missing_row_file_or_meta_is_refused(faces: FaceSet) -> None:
    index = faces.folder / "index.csv"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[:-1]))
    resign(faces.folder, "index.csv")
    with pytest.raises(CharregError, match=r"index\.csv: 3 rows, wanted 4"):
        open_faces(faces.folder)
    (faces.folder / "lr.npy").unlink()
    with pytest.raises(CharregError, match=r"lr\.npy: missing"):
        open_faces(faces.folder)
    (faces.folder / "meta.json").write_text('{"count": "4"}')
    with pytest.raises(CharregError, match=r"not the meta\.json of a face set"):
        open_faces(faces.folder)
    (faces.folder / "meta.json").unlink()
    with pytest.raises(CharregError, match=r"no meta\.json, wanted a face set"):
        open_faces(faces.folder)


def test_the_digest_follows_the_content(tmp_path: Path) -> None:
    one, same = draw_hr_faces(tmp_path / "one"), draw_hr_faces(tmp_path / "same")
    other = draw_hr_faces(tmp_path / "other", first=1)
    assert digest_of_faces(one) == digest_of_faces(same) != digest_of_faces(other)


def test_the_writer_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with FaceWriter(tmp_path, 64, 16) as writer:
        with pytest.raises(ValueError, match="wanted uint8"):
            writer.add(np.zeros((32, 32, 3), np.uint8), {}, np.zeros((16, 16, 3), np.uint8))
        with pytest.raises(ValueError, match="an LR face belongs"):
            writer.add(np.zeros((64, 64, 3), np.uint8), {})
