"""Videos, super-resolved frame by frame; sound is kept. Wants PyAV (extra `[video]`)."""

import os
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from charreg.app.pasting import enlarge_photograph
from charreg.app.upscaler import MARGIN, SmallFaces, find_small_faces, paste_all
from charreg.core.errors import CharregError
from charreg.core.faces import LR_SIZE, Pixels
from charreg.photos.detection import DetectedFace, box_of, crop_square, overlap_of, square_of
from charreg.photos.images import VIDEOS, RejectedImage
from charreg.photos.sources.video import upright

if TYPE_CHECKING:
    from charreg.app.upscale import UpscaleOptions
    from charreg.app.upscaler import Upscaler

SAME = 0.3  # overlap of boxes in neighbouring frames that are one face
KEPT = 0.6  # share of a box that stays from frame to frame, so that faces do not jump
CRF = "17"  # of H.264: nothing visible is lost


def smoothed(faces: list[DetectedFace], before: list[DetectedFace]) -> list[DetectedFace]:
    """Every face moved towards the face of the frame before that it overlaps most."""
    found = []
    for face in faces:
        nearest = max(before, key=lambda other: overlap_of(box_of(face), box_of(other)), default=None)
        if nearest is None or overlap_of(box_of(face), box_of(nearest)) < SAME:
            found.append(face)
            continue
        old, new = np.array(box_of(nearest)), np.array(box_of(face))
        left, top, width, height = (KEPT * old + (1 - KEPT) * new).tolist()
        found.append(DetectedFace(left, top, width, height, face.score, face.scale, face.landmarks))
    return found


def upscale_clip(path: Path, target: Path, upscaler: "Upscaler", options: "UpscaleOptions") -> int:
    """Write a video with its faces resolved as an MP4 of the same rate, upright, with its sound; faces of all frames.

    Raises RejectedImage where there is no frame to decode or no face in any, OSError where the target is refused,
    CharregError without PyAV.
    """
    try:
        import av
    except ImportError:
        raise CharregError(f"{path}: reading videos wants PyAV; pip install 'charreg[video]'") from None
    if path.suffix.lower() not in VIDEOS:
        raise RejectedImage("video")
    partial = target.with_name(f".{target.name[-60:]}.partial-{os.getpid()}.mp4")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        count = _transcode(av, path, partial, upscaler, options)
        if not count:
            raise RejectedImage("no_small_face")
        os.replace(partial, target)
    except av.FFmpegError as error:
        raise RejectedImage("truncated" if isinstance(error, av.EOFError) else "damaged") from None
    finally:
        partial.unlink(missing_ok=True)
    return count


def _transcode(av: Any, path: Path, partial: Path, upscaler: "Upscaler", options: "UpscaleOptions") -> int:
    form = VIDEOS[path.suffix.lower()]
    with (
        av.open(str(path), format=form, options={"protocol_whitelist": "file"}) as source,
        av.open(str(partial), "w") as result,
    ):
        if not source.streams.video:
            raise RejectedImage("no_small_face")
        video, sound = source.streams.video[0], next(iter(source.streams.audio), None)
        stream: Any = None
        copied = result.add_stream_from_template(sound) if sound is not None else None
        before: list[DetectedFace] = []
        waiting: list[Any] = []  # sound from before the first frame: all streams have to be there when muxing begins
        count = 0
        for packet in source.demux([video, sound] if sound is not None else [video]):
            if packet.stream is sound:
                if packet.dts is not None:
                    packet.stream = copied
                    waiting.append(packet)
                if stream is not None:
                    result.mux(waiting)
                    waiting = []
                continue
            for frame in packet.decode():
                picture, before = _resolve_frame(upright(frame), before, upscaler, options)
                count += len(before)
                if stream is None:
                    stream = _add_video(result, video, picture)
                new = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
                new.pts, new.time_base = frame.pts, frame.time_base
                result.mux(stream.encode(new.reformat(width=stream.width, height=stream.height)))
        if stream is not None:
            result.mux([*waiting, *stream.encode()])
    return count


def _add_video(result: Any, video: Any, picture: Image.Image) -> Any:
    stream = result.add_stream("libx264", rate=Fraction(video.average_rate or 25), options={"crf": CRF})
    stream.width, stream.height = picture.width // 2 * 2, picture.height // 2 * 2  # 4:2:0 wants even sides
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = video.time_base
    return stream


def _resolve_frame(
    pixels: Pixels, before: list[DetectedFace], upscaler: "Upscaler", options: "UpscaleOptions"
) -> tuple[Image.Image, list[DetectedFace]]:
    """The enlarged frame and its faces, their boxes smoothed by those of the frame before."""
    found = find_small_faces(pixels, options.faces, workers=options.jobs)
    faces = smoothed(found.faces, before)
    crops = [crop_square(pixels, square_of(face, MARGIN), LR_SIZE) for face in faces]
    small = SmallFaces(faces, np.array(crops, np.uint8).reshape(-1, LR_SIZE, LR_SIZE, 3), found.left_alone)
    enlarged = enlarge_photograph(pixels, options.scale)
    result = paste_all(pixels, enlarged, small, upscaler.faces(small.crops), options.scale, options.keep_model_colours)
    return result.image, faces
