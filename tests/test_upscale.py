"""Photographs in, photographs out: what is found, what is written where, and what survives."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import charreg
from charreg.app import upscale as files
from charreg.app.pasting import is_grey, match_colours, paste_face
from charreg.app.upscale import UpscaleOptions, upscale
from charreg.app.upscaler import DEFAULT_MODEL, RELEASED, Upscaler, find_small_faces, scale_for
from charreg.core.errors import CharregError
from charreg.core.faces import Pixels
from charreg.core.resampling import resize_image
from charreg.photos.detection import Square
from conftest import ROOT
from data_fixtures import odd_files, portrait

SAMPLE = RELEASED / "samples/coffee.jpg"
CROPS = UpscaleOptions(crops=True)


class Stub:
    """Regulates to the negative, by strength, and enlarges by bicubic: what comes out tells what went in."""

    def __call__(self, lr: Pixels, strength: float) -> tuple[Pixels, Pixels]:
        face = lr.astype(np.float64)
        regulated = np.rint(face + strength * (255 - 2 * face)).astype(np.uint8)
        return regulated, np.stack([resize_image(face, 64) for face in regulated])


@pytest.fixture
def stub() -> Upscaler:
    return Upscaler(Stub(), 0.0)


def crop(side: tuple[int, int] = (20, 20), seed: int = 0) -> Image.Image:
    """A picture that may be the square of a face."""
    return Image.fromarray(portrait()).resize(side).rotate(seed)


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture that can be read to its end."""
    with Image.open(path) as image:
        image.load()
        return image.size


def rows(table: Path) -> list[dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- in memory -------------------------------------------------------------------------------------------


def test_the_shipped_model_resolves_the_sample() -> None:
    sr = charreg.load(device="cpu")
    result = sr(SAMPLE)
    assert len(result.faces) > 30
    photograph = Image.open(SAMPLE)
    assert result.image.size == (4 * photograph.width, 4 * photograph.height)
    for face in result.faces:
        assert 8 <= face.side <= 32
        assert face.score >= 0.9
        assert (face.genuine.shape, face.regulated.shape, face.resolved.shape) == (
            (16, 16, 3),
            (16, 16, 3),
            (64, 64, 3),
        )
    plain = photograph.resize(result.image.size, Image.Resampling.LANCZOS)
    changed = np.abs(np.asarray(result.image).astype(int) - np.asarray(plain)).max(axis=2) > 0
    left, top, width, height = (round(4 * value) for value in result.faces[0].box)
    assert changed[top : top + height, left : left + width].mean() > 0.9
    assert changed.mean() < 0.5  # the rest is Lanczos to the bit


def test_the_shipped_model_gives_these_numbers() -> None:
    """Six digits of its output on a made face, on a made strength."""
    x = torch.linspace(-1, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
    sr = charreg.load(device="cpu", strength=0.5)
    with torch.no_grad():
        S = replace(sr.network.method, strength=0.5).super_resolve(x, "genuine")
    found = [S.mean().item(), S.std().item(), S[0, 0, 0, 0].item(), S[0, 2, 63, 63].item()]
    assert found == pytest.approx(RELEASED_NUMBERS, abs=1e-5)


RELEASED_NUMBERS = [-0.0537437, 0.4265897, -1.0443311, 0.7935515]


def test_pictures_of_every_kind_give_the_same_faces(stub: Upscaler) -> None:
    image = Image.open(SAMPLE)
    once, again, third = stub(SAMPLE), stub(image), stub(np.asarray(image))
    assert [face.box for face in once.faces] == [face.box for face in again.faces] == [face.box for face in third.faces]
    assert once.image.tobytes() == third.image.tobytes()
    assert stub(str(SAMPLE), scale=1).image.size == image.size


def test_what_is_no_picture_is_refused_in_one_line(stub: Upscaler, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    for image, words in (
        (tmp_path / "notes.txt", "not_an_image"),
        (np.zeros((4, 4), np.float32), "found float32"),
        (np.zeros((4, 4, 4), np.uint8), r"found uint8 \[4, 4, 4\]"),
    ):
        with pytest.raises(CharregError, match=words):
            stub(image)
    for options, words in (({"faces": (8, 64)}, "48 at most"), ({"faces": (9, 8)}, "9-8"), ({"scale": 3}, "found 3")):
        with pytest.raises(CharregError, match=words):
            stub(SAMPLE, **options)
    with pytest.raises(CharregError, match="strength: found 2"):
        Upscaler(Stub(), 2)


def test_crops_of_any_size_are_resolved(stub: Upscaler) -> None:
    found = stub.faces([np.asarray(crop()), np.asarray(crop((16, 16)))])
    assert (found.genuine.shape, found.regulated.shape, found.resolved.shape) == (
        (2, 16, 16, 3),
        (2, 16, 16, 3),
        (2, 64, 64, 3),
    )
    assert np.array_equal(found.genuine[1], np.asarray(crop((16, 16))))
    assert stub.faces([]).resolved.shape == (0, 64, 64, 3)
    with pytest.raises(CharregError, match=r"crops: found uint8 \[20, 20\]"):
        stub.faces([np.zeros((20, 20), np.uint8)])


def test_strength_is_handed_to_the_network() -> None:
    face = np.asarray(crop((16, 16)))
    whole, half = (Upscaler(Stub(), strength).faces([face]).regulated[0] for strength in (1.0, 0.5))
    assert np.array_equal(whole, 255 - face)
    assert np.ptp(half) <= 1


def test_large_photographs_are_enlarged_less() -> None:
    assert scale_for(1_000_000) == 2.5
    assert scale_for(3_000_000) == 2
    assert scale_for(12_000_000) == 1
    assert scale_for(100_000_000) == 1


def test_faces_out_of_range_are_counted_by_reason() -> None:
    pixels = np.asarray(Image.open(SAMPLE))
    every = find_small_faces(pixels, (1, 48))
    some = find_small_faces(pixels, (14, 18), workers=2)
    assert 0 < len(some.faces) < len(every.faces)
    left = {reason: some.left_alone[reason] for reason in ("face_too_small", "face_too_large")}
    assert sum(left.values()) == len(every.faces) - len(some.faces)
    assert min(left.values()) > 0


def test_a_pasted_face_lies_in_its_square_to_the_pixel() -> None:
    """A face that is the enlarged photograph itself changes next to nothing, wherever its square lies."""
    smooth = np.asarray(Image.fromarray(portrait()).resize((60, 72), Image.Resampling.BICUBIC))
    for x, y in ((30.0, 36.0), (28.3, 31.7), (3.0, 70.0)):
        large = Image.fromarray(smooth).resize((240, 288), Image.Resampling.BICUBIC)
        before = np.asarray(large).astype(int)
        square = Square(x, y, 16.0)
        box = (4 * (x - 8), 4 * (y - 8), 4 * (x + 8), 4 * (y + 8))
        face = np.asarray(large.transform((64, 64), Image.Transform.EXTENT, box, Image.Resampling.BICUBIC))
        paste_face(large, face, face, square, 4, keep_model_colours=True, grey=False)
        inside = np.abs(np.asarray(large).astype(int) - before)[max(0, int(4 * y) - 20) : int(4 * y) + 20]
        assert inside[:, max(0, int(4 * x) - 20) : int(4 * x) + 20].mean() < 2


def test_colours_are_those_of_what_is_replaced() -> None:
    genuine = np.asarray(Image.fromarray(portrait()).resize((16, 16))) // 2 + np.array([40, 10, 0], np.uint8)
    resolved = np.asarray(Image.fromarray(portrait()).resize((64, 64)))
    matched = match_colours(resolved, genuine)
    small = resize_image(matched, 16)
    assert np.abs(small.mean(axis=(0, 1)) - genuine.mean(axis=(0, 1))).max() < 2
    assert np.abs(small.std(axis=(0, 1)) - genuine.std(axis=(0, 1))).max() < 2


def test_grey_photographs_stay_grey() -> None:
    colourful = Upscaler(lambda lr, strength: (lr, np.tile(np.uint8([200, 50, 10]), (len(lr), 64, 64, 1))), 1.0)
    grey = Image.open(SAMPLE).convert("L")
    result = colourful(grey, keep_model_colours=True)
    assert result.faces
    assert is_grey(np.asarray(result.image))
    assert not is_grey(np.asarray(colourful(SAMPLE, keep_model_colours=True).image))


def test_grey_crops_stay_grey() -> None:
    """Through the shipped model, at full strength, where CR likes to colour them."""
    found = charreg.load(device="cpu", strength=1.0).faces([np.asarray(crop((16, 16), seed)) for seed in range(20)])
    assert all(is_grey(face) for face in (*found.regulated, *found.resolved))


# --- files -----------------------------------------------------------------------------------------------


def test_one_photograph_to_one_file(stub: Upscaler, tmp_path: Path) -> None:
    summary = upscale(SAMPLE, tmp_path / "result.png", stub, UpscaleOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.faces.csv", "result.faces.png", "result.png"]
    found = rows(tmp_path / "result.faces.csv")
    assert len(found) == summary.faces > 30
    assert found[0].keys() == set(files.COLUMNS)
    assert {row["file"] for row in found} == {"result.png"}
    assert size_of(tmp_path / "result.png") == (1920, 1440)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with photographs, collisions, an archive and what cannot be used."""
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    shutil.copy(SAMPLE, root / "sub/crowd.jpg")
    Image.open(SAMPLE).save(root / "sub/crowd.png")
    Image.new("RGB", (200, 100), "green").save(root / "lawn.png")
    (root / "broken.jpg").write_bytes(odd_files()["exif.jpg"][0][:300])
    (root / "raw.CR2").write_bytes(b"II*\0 no")
    (root / ".hidden.jpg").write_bytes(b"x")
    (root / "notes.txt").write_text("no picture")
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        archive.write(SAMPLE, "packed/crowd.jpg")
    return root


def test_a_folder_keeps_its_shape_and_counts_everything(
    tree: Path, stub: Upscaler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = upscale(tree, tmp_path / "out", stub, UpscaleOptions(scale=2, jobs=2))
    out = tmp_path / "out"
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert made == [
        *("contact_sheet.png", "faces.csv", "packed/crowd.png"),
        *("sub/crowd.jpg.png", "sub/crowd.png.png"),
    ]
    assert (summary.done, dict(summary.left_out)) == (3, {"no_small_face": 1, "truncated": 1, "damaged": 1})
    lines = capsys.readouterr().err
    assert "lawn.png: no_small_face" in lines
    assert "raw.CR2: damaged" in lines
    assert len(rows(out / "faces.csv")) == summary.faces

    again = upscale(tree, out, stub, UpscaleOptions(scale=2))
    assert (again.done, again.left_out["exists"]) == (0, 3)
    assert len(rows(out / "faces.csv")) == summary.faces
    anew = upscale(tree, out, stub, UpscaleOptions(scale=2, overwrite=True))
    assert (anew.done, len(rows(out / "faces.csv"))) == (3, summary.faces)


def test_faces_only_come_with_their_triplets(stub: Upscaler, tmp_path: Path) -> None:
    summary = upscale(SAMPLE, tmp_path / "faces", stub, UpscaleOptions(faces_only=True))
    folder = tmp_path / "faces/coffee"
    assert len(list(folder.glob("face_[0-9][0-9][0-9].png"))) == summary.faces
    assert size_of(folder / "face_000.png") == (64, 64)
    assert size_of(folder / "face_000_triplet.png") == (192, 64)
    assert rows(tmp_path / "faces/faces.csv")[0]["file"] == "coffee/face_000.png"


def test_crops_obey_the_rules_of_ready_boxes(
    stub: Upscaler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No picture is squeezed: what is not one small, square face is named and left out."""
    sizes = {
        "good": (16, 16),
        "nearly": (14, 15),
        "large": (64, 64),
        "portrait": (260, 380),
        "dot": (1, 1),
        "wide": (30, 20),
    }
    (tmp_path / "in").mkdir()
    for name, size in sizes.items():
        crop(size).save(tmp_path / "in" / f"{name}.png")
    summary = upscale(tmp_path / "in", tmp_path / "out", stub, CROPS)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "contact_sheet.png",
        "good.png",
        "nearly.png",
    ]
    assert dict(summary.left_out) == {"face_too_large": 1, "not_framed": 2, "face_too_small": 1}
    err = capsys.readouterr().err
    assert all(f"{name}.png: " in err for name in ("large", "portrait", "dot", "wide"))


def test_a_whole_photograph_is_never_squeezed_into_a_face(stub: Upscaler, tmp_path: Path) -> None:
    summary = upscale(SAMPLE, tmp_path / "x.png", stub, CROPS)
    assert (summary.done, dict(summary.left_out)) == (0, {"not_framed": 1})


def test_out_inside_source_and_missing_sources_are_refused(stub: Upscaler, tree: Path, tmp_path: Path) -> None:
    for source, out, words in (
        (tree, tree, "wanted a place outside it"),
        (tree, tree / "sub/out", "wanted a place outside it"),
        (tmp_path / "gone", tmp_path / "out", "no such file or folder"),
        (SAMPLE, SAMPLE, "is the source itself"),
    ):
        with pytest.raises(CharregError, match=words):
            upscale(source, out, stub, UpscaleOptions())
    with pytest.raises(CharregError, match="wanted a folder for the faces"):
        upscale(SAMPLE, tmp_path / "a.png", stub, UpscaleOptions(faces_only=True))


def test_a_name_that_is_too_long_costs_one_line(
    stub: Upscaler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    long = "x" * 248
    for name in ("a.png", f"{long}.jpg", f"{long}.png", f"{'y' * 248}.png"):
        crop().save(tmp_path / "in" / name)
    summary = upscale(tmp_path / "in", tmp_path / "out", stub, CROPS)
    assert (summary.done, summary.left_out["not_written"]) == (2, 2)  # two that collide keep their suffix inside
    assert capsys.readouterr().err.count("File name too long") == 2
    assert (tmp_path / "out" / f"{'y' * 248}.png").exists()


@pytest.mark.parametrize("kind", ["jpg", "webp", "tiff"])
def test_formats(stub: Upscaler, tmp_path: Path, kind: Any) -> None:
    (tmp_path / "in").mkdir()
    crop().save(tmp_path / "in/a.png")
    upscale(tmp_path / "in", tmp_path / "out", stub, replace(CROPS, format=kind))
    assert size_of(tmp_path / f"out/a.{kind}") == (64, 64)


def test_colliding_names_never_share_a_result(stub: Upscaler, tmp_path: Path) -> None:
    """a.jpg becomes a.jpg.png, so a.jpg.png has to move on; two cases of one name meet on some systems."""
    (tmp_path / "in").mkdir()
    names = ["a.jpg", "a.png", "a.jpg.png", "B.jpg", "b.png", "c.png"]
    for name in names:
        crop().save(tmp_path / "in" / name)
    assert upscale(tmp_path / "in", tmp_path / "out", stub, CROPS).done == len(names)
    made = {path.name for path in (tmp_path / "out").glob("*.png")} - {"contact_sheet.png"}
    assert made == {"a.jpg.png", "a.png.png", "a.jpg.png.png", "B.jpg.png", "b.png.png", "c.png"}


@pytest.mark.parametrize(
    ("source", "out", "options"),
    [("clip.mp4", "x.png", {}), ("crop.png", "x.mp4", {}), ("crop.png", "x.png", {"format": "jpg"})],
)
def test_a_suffix_that_is_not_of_the_result_is_refused(
    stub: Upscaler, tmp_path: Path, source: str, out: str, options: dict[str, Any]
) -> None:
    crop().save(tmp_path / "crop.png")
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(CharregError, match=r"x\.(png|mp4): found suffix \.(png|mp4), wanted "):
        upscale(tmp_path / source, tmp_path / out, stub, replace(CROPS, **options))


def test_what_a_format_cannot_hold_costs_one_line(
    stub: Upscaler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    with Image.open(SAMPLE) as sample:
        wide = Image.new("RGB", (4200, 100))
        wide.paste(sample.crop((0, 0, 480, 100)), (0, 0))
        wide.save(tmp_path / "in/wide.png")
        sample.crop((0, 0, 160, 120)).save(tmp_path / "in/small.png")
    summary = upscale(tmp_path / "in", tmp_path / "out", stub, UpscaleOptions(format="webp"))
    assert (summary.done, dict(summary.left_out)) == (1, {"not_written": 1})
    assert capsys.readouterr().err.count("wide.png: not_written") == 1


KILLED = """
import sys, time
sys.path[:0] = [{src!r}, {tests!r}]
from pathlib import Path
from charreg.app import upscale as files
from charreg.app.upscaler import Upscaler
from test_upscale import CROPS, Stub
save = files.save_picture
def slowly(*words):
    time.sleep(0.02)
    save(*words)
files.save_picture = slowly
files.BATCH_PHOTOS = 8
print("ready", flush=True)
files.upscale(Path("in"), Path("out"), Upscaler(Stub(), 0.0), CROPS)
"""


@pytest.mark.slow
def test_a_killed_folder_goes_on(stub: Upscaler, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(200):
        crop(seed=i).save(tmp_path / "in" / f"{i:03}.png")
    code = KILLED.format(src=str(ROOT / "src"), tests=str(ROOT / "tests"))
    victim = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("*.png"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    out = tmp_path / "out"
    done = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert 20 <= len(done) < 200
    summary = upscale(tmp_path / "in", out, stub, CROPS)
    assert (summary.done, summary.left_out["exists"]) == (200 - len(done), len(done))
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    pictures = sorted(path for path in out.glob("[0-9]*.png"))
    assert len(pictures) == 200
    assert {size_of(path) for path in pictures} == {(64, 64)}
    assert [row["photo"] for row in rows(out / "faces.csv")].count("000.png") == 1
    assert {row["photo"] for row in rows(out / "faces.csv")} == {f"{i:03}.png" for i in range(200)}


# --- videos ----------------------------------------------------------------------------------------------


def test_a_video_keeps_its_rate_and_its_sound(stub: Upscaler, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    crowd = np.asarray(Image.open(SAMPLE).crop((0, 0, 240, 160)))
    clip = tmp_path / "clip.mp4"
    with av.open(str(clip), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt, video.bit_rate = 240, 160, "yuv420p", 20_000_000
        sound = container.add_stream("aac", rate=44100)
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(np.roll(crowd, i, axis=1), format="rgb24")
            container.mux(video.encode(frame))
            tone = np.sin(np.arange(1764) / 20).astype(np.float32)[None]
            heard = av.AudioFrame.from_ndarray(np.repeat(tone, 2, axis=0), format="fltp", layout="stereo")
            heard.sample_rate, heard.pts = 44100, 1764 * i
            container.mux(sound.encode(heard))
        container.mux(video.encode())
        container.mux(sound.encode())
    summary = upscale(clip, tmp_path / "large.mp4", stub, UpscaleOptions(scale=2))
    assert summary.done == 1
    assert summary.faces > 6
    with av.open(str(tmp_path / "large.mp4")) as result:
        video = result.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in result.decode(video)]
        assert (len(frames), frames[0].shape) == (6, (320, 480, 3))
        assert float(video.average_rate) == pytest.approx(25, rel=0.02)
        assert len(result.streams.audio) == 1
    plain = np.asarray(Image.fromarray(crowd).resize((480, 320), Image.Resampling.LANCZOS))
    assert np.abs(frames[0].astype(int) - plain).mean() < 12


def test_boxes_are_smoothed_over_frames() -> None:
    from charreg.app.clips import smoothed
    from charreg.photos.detection import DetectedFace

    def face(left: float) -> DetectedFace:
        return DetectedFace(left, 10, 20, 20, 0.9, 1, np.zeros((5, 2)))

    (found,) = smoothed([face(104)], [face(100), face(300)])
    assert 100 < found.left < 102
    assert smoothed([face(200)], [face(100)])[0].left == 200


def test_without_pyav_the_photographs_beside_a_video_are_made(
    stub: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "in").mkdir()
    shutil.copy(SAMPLE, tmp_path / "in/crowd.jpg")
    (tmp_path / "in/clip.mp4").write_bytes(b"x")
    summary = upscale(tmp_path / "in", tmp_path / "out", stub, UpscaleOptions(scale=1))
    assert (summary.done, dict(summary.left_out)) == (1, {"video": 1})
    assert "pip install 'charreg[video]'" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no video" * 99])
def test_damaged_videos_are_counted(stub: Upscaler, tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("av")
    (tmp_path / "clip.mp4").write_bytes(content)
    summary = upscale(tmp_path / "clip.mp4", tmp_path / "out", stub, UpscaleOptions())
    assert (summary.done, sum(summary.left_out.values())) == (0, 1)


# --- without the pipeline --------------------------------------------------------------------------------


def test_importing_charreg_imports_no_torch() -> None:
    code = "import sys, charreg; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_upscale_runs_without_what_windows_lacks(tmp_path: Path) -> None:
    crop().save(tmp_path / "a.png")
    code = "import sys; sys.modules['fcntl'] = None; from charreg.app.cli import main; main()"
    for words in (["--help"], ["models"], ["upscale", "a.png", "b.png", "--crops", "--device", "cpu"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert size_of(tmp_path / "b.png") == (64, 64)


# --- ONNX ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    from charreg.app.onnx_graph import export_onnx

    path = tmp_path_factory.mktemp("onnx") / "cr.onnx"
    export_onnx(DEFAULT_MODEL, path, 0.5)
    return path


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_onnxruntime_agrees_with_torch(graph: Path, count: int, strength: float) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    method = charreg.load(device="cpu").network.method
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    random = torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    real = torch.from_numpy(find_small_faces(np.asarray(Image.open(SAMPLE))).crops[:count].copy())
    for G in (random, real.permute(0, 3, 1, 2).float() / 127.5 - 1):
        with torch.no_grad():
            S = replace(method, strength=strength).super_resolve(G, "genuine")
        _, found = session.run(None, {"genuine": G.numpy(), "strength": np.array(strength, np.float32)})
        assert np.abs(found - S.numpy()).max() < 1e-4


def test_a_graph_takes_the_place_of_a_model(graph: Path) -> None:
    onnx, plain = charreg.load(graph), charreg.load(device="cpu", strength=0.5)
    assert onnx.strength == 0.5
    faces = [np.asarray(crop((16, 16), seed)) for seed in range(3)]
    assert np.abs(onnx.faces(faces).resolved.astype(int) - plain.faces(faces).resolved).max() <= 1


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    for path in (tmp_path / "a.onnx", tmp_path / "gone.onnx"):
        with pytest.raises(CharregError, match=r"\.onnx: "):
            charreg.load(path)
