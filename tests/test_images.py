"""Untrusted picture files: decoded right, or refused under the right reason."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from charreg.photos import images
from charreg.photos.images import REASONS, RejectedImage, decode_picture, read_picture
from charreg.photos.sources import find_photos, read_photo
from data_fixtures import damaged_files, encoded, odd_files, portrait, write_files

LIMIT = 100_000_000
DAMAGED, ODD = damaged_files(), odd_files()


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_under_their_reason(name: str) -> None:
    content, reason = DAMAGED[name]
    with pytest.raises(RejectedImage) as refusal:
        decode_picture(content, LIMIT, min_side=7)
    assert refusal.value.reason == reason
    assert reason in REASONS


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_decoded_upright_and_noted(name: str) -> None:
    content, note = ODD[name]
    picture = decode_picture(content, LIMIT)
    assert note in picture.notes
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.shape == (112, 92, 3)
    difference = np.abs(picture.pixels.astype(int) - portrait())
    assert difference.mean() < 4  # JPEG and palette lose a little; a picture on its side would be some 50 off


@pytest.mark.parametrize(
    ("values", "levels"),
    [([0, 255, 256, 65535], [0, 0, 1, 255]), ([0, 16, 2048, 4095], [0, 1, 128, 255]), ([0, 1, 200], [0, 1, 200])],
)
def test_16_bits_are_scaled_by_those_they_use(values: list[int], levels: list[int]) -> None:
    """12 bits in 16 are no black picture."""
    content = encoded(Image.fromarray(np.array([values], dtype=np.uint16)), "PNG")
    assert decode_picture(content, LIMIT).pixels[0, :, 0].tolist() == levels


def test_the_first_page_of_a_tiff_is_taken() -> None:
    page, thumbnail = Image.new("RGB", (60, 50), (10, 20, 30)), Image.new("RGB", (6, 5))
    picture = decode_picture(encoded(page, "TIFF", save_all=True, append_images=[thumbnail]), LIMIT)
    assert picture.pixels.shape == (50, 60, 3)
    assert picture.notes == ("first_page",)


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000"])
def test_newer_formats_are_read(kind: str) -> None:
    pixels = decode_picture(encoded(Image.fromarray(portrait()), kind), LIMIT).pixels
    assert np.abs(pixels.astype(int) - portrait()).mean() < 6


def test_heif_is_read_by_its_package_or_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener(thumbnails=False)
    content = encoded(Image.fromarray(portrait()), "HEIF")
    assert np.abs(decode_picture(content, LIMIT).pixels.astype(int) - portrait()).mean() < 6
    monkeypatch.setattr(images, "_heif", tuple)  # as if it were not installed
    with pytest.raises(RejectedImage, match="wants_pillow_heif"):
        decode_picture(content, LIMIT)


@pytest.mark.parametrize("suffix", [".mp4", ".dav", ".h264", ".wmv"])
def test_videos_among_photographs_are_counted(tmp_path: Path, suffix: str) -> None:
    write_files(tmp_path, {f"clip{suffix}": (b"frames", ""), "grey.pgm": ODD["grey.pgm"]})
    (clip, _) = find_photos("folder", tmp_path).photos
    with pytest.raises(RejectedImage, match="video"):
        read_photo(clip, LIMIT)


def test_alpha_is_laid_over_white() -> None:
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    assert decode_picture(encoded(image, "PNG"), LIMIT).pixels.tolist() == [[[255] * 3, [10, 20, 30]]]


def test_cmyk_colours_survive() -> None:
    red = Image.new("RGB", (16, 16), (220, 30, 40)).convert("CMYK")
    pixels = decode_picture(encoded(red, "JPEG", quality=95), LIMIT).pixels
    assert np.abs(pixels.astype(int) - [220, 30, 40]).max() < 12


def test_first_picture_of_an_mpo_is_taken() -> None:
    first, second = Image.new("RGB", (32, 24), "white"), Image.new("RGB", (32, 24), "black")
    content = encoded(first, "MPO", save_all=True, append_images=[second])
    assert decode_picture(content, LIMIT).pixels.min() > 250


def test_size_is_judged_before_decoding_and_by_max_pixels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("RGB", (60, 50)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow's own limit: a warning, then an error
    assert decode_picture(content, 3000).pixels.shape == (50, 60, 3)
    with pytest.raises(RejectedImage, match="too_large"):
        decode_picture(content, 2999)
    assert Image.MAX_IMAGE_PIXELS == 100

    def load(*_: object) -> None:
        raise AssertionError("decoded although too large")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(RejectedImage, match="too_large"):
        decode_picture(DAMAGED["enormous.png"][0], LIMIT)


def test_a_truncated_file_is_refused_even_where_others_tolerate_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RejectedImage, match="truncated"):
        decode_picture(DAMAGED["truncated.jpg"][0], LIMIT)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_every_cut_and_many_flipped_bytes_never_escape_as_another_error() -> None:
    draws = np.random.default_rng(0)
    for name in ("alpha.png", "cmyk.jpg", "exif.jpg", "palette.png", "grey.pgm"):
        content = ODD[name][0]
        for _ in range(40):
            broken = bytearray(content[: int(draws.integers(1, len(content)))])
            broken[int(draws.integers(len(broken)))] ^= 1 << int(draws.integers(8))
            reason = ""
            try:
                assert decode_picture(bytes(broken), 200_000).pixels.ndim == 3
            except RejectedImage as refusal:
                reason = refusal.reason
            assert reason in {"", *REASONS}


def test_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(RejectedImage, match="not_an_image"):
        read_picture(tmp_path / "pipe.jpg", LIMIT)


def test_links_to_nowhere_and_forbidden_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    forbidden = write_files(tmp_path, {"grey.pgm": ODD["grey.pgm"]}) / "grey.pgm"

    def forbid(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", forbid)  # root may read anything, so no chmod
    for path in (tmp_path / "link.jpg", tmp_path / "loop.jpg", forbidden):
        with pytest.raises(RejectedImage, match="unreadable"):
            read_picture(path, LIMIT)
    assert "unreadable" in REASONS


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "padding.jpg").write_bytes(bytes(8001))
    with pytest.raises(RejectedImage, match="too_large"):
        read_picture(tmp_path / "padding.jpg", 1000)
