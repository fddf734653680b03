"""Surveillance: cameras, strides, and the same pixels of a video however it is read."""

import pickle
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charreg.core.errors import CharregError
from charreg.photos.images import RejectedImage
from charreg.photos.sources import Photo, find_photos, read_photo, video
from data_fixtures import Stages
from miniature import write_surveillance, write_video


def shade(photo: Photo) -> float:
    return float(read_photo(photo, 10**6).pixels.mean())


def test_cameras_are_albums_and_frames_lie_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    raw = find_photos("surveillance", write_surveillance(tmp_path))
    gate, yard = raw.photos[:12], raw.photos[12:]
    assert [photo.name for photo in gate] == [f"gate/monday/frame{i}.jpg" for i in range(1, 13)]
    assert [photo.name for photo in yard] == [f"yard/morning.mp4#{i:06}" for i in range(12)]
    assert [photo.album for photo in raw.photos] == ["gate"] * 12 + ["yard"] * 12
    assert [shade(photo) for photo in gate] == pytest.approx([10 * i for i in range(1, 13)], abs=2)
    assert [shade(photo) for photo in yard] == pytest.approx([20 * i for i in range(12)], abs=4)


def test_the_stride_takes_every_so_many_th_frame(tmp_path: Path) -> None:
    raw = find_photos("surveillance", write_surveillance(tmp_path), stride=5)
    assert [photo.name for photo in raw.photos] == [
        *(f"gate/monday/frame{i}.jpg" for i in (1, 6, 11)),
        *(f"yard/morning.mp4#{i:06}" for i in (0, 5, 10)),
    ]
    assert [shade(photo) for photo in raw.photos[3:]] == pytest.approx([0, 100, 200], abs=4)


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_a_frame_has_the_same_pixels_in_whatever_order_frames_are_read(tmp_path: Path, suffix: str) -> None:
    write_video(tmp_path / "yard" / f"a{suffix}")
    photos = find_photos("surveillance", tmp_path).photos
    forward = [read_photo(photo, 10**6).pixels for photo in photos]
    assert [pixels.mean() for pixels in forward] == pytest.approx([20 * i for i in range(12)], abs=4)
    for i in np.random.default_rng(0).permutation([*range(12), *range(12)]):
        copy = pickle.loads(pickle.dumps(photos[i]))  # as it is sent to a worker
        assert np.array_equal(read_photo(copy, 10**6).pixels, forward[i])


def test_frames_in_order_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "yard" / "a.mp4")
    photos = find_photos("surveillance", tmp_path).photos
    begun = []
    original = video._Reader.frame_at

    def frame_at(reader: video._Reader, *args: Any) -> Any:
        frame = original(reader, *args)
        begun.append(reader.frames)
        return frame

    monkeypatch.setattr(video._Reader, "frame_at", frame_at)
    for photo in photos:
        read_photo(photo, 10**6)
    assert len({id(frames) for frames in begun}) == len({photo.place.key for photo in photos}) < len(photos)


def test_missing_pieces_are_named(tmp_path: Path) -> None:
    with pytest.raises(CharregError, match="found no picture and no video, wanted a folder for each camera"):
        find_photos("surveillance", tmp_path)
    write_video(tmp_path / "morning.mp4")
    with pytest.raises(CharregError, match=r"found morning\.mp4, wanted a folder for each camera"):
        find_photos("surveillance", tmp_path)


def test_damaged_videos_are_refused_or_their_frames_left_out(tmp_path: Path) -> None:
    path = write_video(tmp_path / "yard" / "a.mkv")
    photos = find_photos("surveillance", tmp_path).photos
    content = path.read_bytes()
    for broken in (b"", b"no video\n" * 99, content[:100]):
        path.write_bytes(broken)
        with pytest.raises(CharregError, match=r"a\.mkv: .*wanted a video") as refusal:
            find_photos("surveillance", tmp_path)
        assert "\n" not in str(refusal.value)
    path.write_bytes(content[: len(content) // 2])
    assert shade(photos[0]) < 4
    with pytest.raises(RejectedImage, match=r"truncated|damaged"):
        read_photo(photos[-1], 10**6)
    path.unlink()
    with pytest.raises(RejectedImage, match="unreadable"):
        read_photo(photos[0], 10**6)


def test_the_size_of_a_frame_is_judged_before_it_is_decoded(tmp_path: Path) -> None:
    write_video(tmp_path / "yard" / "a.mp4")
    photo = find_photos("surveillance", tmp_path).photos[0]
    for options, reason in (((64 * 48 - 1,), "too_large"), ((10**6, 49), "too_small")):
        with pytest.raises(RejectedImage, match=reason):
            read_photo(photo, *options)


def test_a_playlist_named_as_a_video_reaches_no_other_file(tmp_path: Path) -> None:
    secret = write_video(tmp_path / "secret.mp4")
    (tmp_path / "cameras" / "yard").mkdir(parents=True)
    for suffix, text in (
        (".mp4", f"ffconcat version 1.0\nfile {secret}\n"),
        (".ts", f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"),
    ):
        path = tmp_path / "cameras" / "yard" / f"a{suffix}"
        path.write_text(text)
        with pytest.raises(CharregError, match="wanted a video"):
            find_photos("surveillance", tmp_path / "cameras")
        path.unlink()


def test_without_pyav_videos_say_what_to_install_and_frames_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_surveillance(tmp_path)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(CharregError, match=r"morning\.mp4: .*pip install 'charreg\[video\]'"):
        find_photos("surveillance", tmp_path)
    (tmp_path / "yard" / "morning.mp4").unlink()
    assert len(find_photos("surveillance", tmp_path).photos) == 12


@pytest.mark.parametrize(("turns", "matrix"), [(1, (0, 1, -1, 0)), (2, (-1, 0, 0, -1)), (3, (0, -1, 1, 0))])
def test_frames_are_turned_upright(tmp_path: Path, turns: int, matrix: tuple[int, ...]) -> None:
    """As a phone stores them: pixels lying, and a display matrix in the track header."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24] = 200
    path = write_video(tmp_path / "yard" / "a.mp4", pictures=[picture] * 3)
    lying = read_photo(find_photos("surveillance", tmp_path).photos[0], 10**6)
    assert lying.notes == ()
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # of the matrix, fixed point 16.16
    a, b, c, d = (value << 16 for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    upright = read_photo(find_photos("surveillance", tmp_path).photos[0], 10**6)
    assert upright.notes == ("rotated",)
    assert np.array_equal(upright.pixels, np.rot90(lying.pixels, -turns))  # matrix and turns are clockwise


def test_the_stage_takes_the_stride(tmp_path: Path) -> None:
    raw = write_surveillance(tmp_path / "raw")
    role = {"source": "surveillance", "path": "", "exclude": "none.txt", "stride": 8}
    faces = Stages(tmp_path).lr(raw, "lr", **{"lr_roles.web": role})
    assert faces.meta["photos"] == 4
    assert faces.meta["rejections"] == {"no_face": 4}
