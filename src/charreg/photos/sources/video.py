"""Frames of surveillance videos. The only file that knows PyAV (extra `[video]`).

A frame is decoded from the key frame before it, whoever asks and whatever was read before, so every executor gets the
same pixels; a reader that is asked for frames in order decodes each once.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from charreg.core.errors import CharregError
from charreg.core.faces import Pixels
from charreg.photos.images import VIDEOS, Picture, RejectedImage
from charreg.photos.sources.photos import Frame

if TYPE_CHECKING:
    import av


def list_frames(path: Path, stride: int) -> list[Frame]:
    """Every `stride`-th frame of a video in the order of time, nothing decoded. Raises CharregError."""
    av = _av(path)
    try:
        with _open(path) as container:
            stream = _stream(container)
            frames = _frames(container.demux(stream))
            if frames:
                container.seek(frames[-1].key, stream=stream, backward=True)  # a cut file may not let one
    except (av.FFmpegError, OSError, ValueError) as error:
        raise CharregError(
            f"{path}: {' '.join(str(error).split())}; wanted a video, leave it out or fetch it again"
        ) from None
    if not frames:
        raise CharregError(f"{path}: found no frame, wanted a video; leave it out or fetch it again")
    return frames[::stride]


def _frames(packets: Iterable[Any]) -> list[Frame]:
    """The frames of a stream in the order of time; those before the first key frame cannot be decoded."""
    stamped = [
        (stamp, packet.is_keyframe, packet.dts)
        for packet in packets
        if packet.size and (stamp := _stamp(packet)) is not None
    ]
    frames: list[Frame] = []
    key = None
    for stamp, is_key, decoded_at in sorted(stamped, key=lambda packet: packet[0]):
        if is_key:
            key = stamp if decoded_at is None else decoded_at
        if key is not None:
            frames.append(Frame(stamp, key))
    return frames


def read_frame(path: Path, frame: Frame, max_pixels: int, min_side: int = 1) -> Picture:
    """Decode one frame. Raises RejectedImage."""
    av = _av(path)
    try:
        status = path.stat()
        reader = _reader(path, (status.st_mtime_ns, status.st_size))
        picture = reader.frame_at(frame, max_pixels)
    except av.EOFError:
        raise RejectedImage("truncated") from None
    except (av.FFmpegError, ValueError):
        raise RejectedImage("damaged") from None
    except OSError:
        raise RejectedImage("unreadable") from None
    if min(picture.width, picture.height) < min_side:
        raise RejectedImage("too_small")
    return Picture(upright(picture), ("rotated",) if picture.rotation else ())


def upright(frame: "av.VideoFrame") -> Pixels:
    """The pixels of a frame, uint8 [H, W, 3], turned as the display matrix of its stream says, as phones store it."""
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


class _Reader:
    """An open video and how far it has been decoded."""

    def __init__(self, path: Path) -> None:
        self.container = _open(path)
        self.stream = _stream(self.container)
        self.stream.codec_context.thread_count = 1
        self.begun: int | None = None  # the key frame decoding began at
        self.reached = 0
        self.frames: Iterator[Any] = iter(())

    def frame_at(self, wanted: Frame, max_pixels: int) -> "av.VideoFrame":
        """The frame of that time stamp, or the first after it."""
        codec = self.stream.codec_context
        if codec.width * codec.height > max_pixels:
            raise RejectedImage("too_large")
        if wanted.key != self.begun or wanted.stamp <= self.reached:
            self.container.seek(wanted.key, stream=self.stream, backward=True)
            self.frames = self.container.decode(self.stream)
        self.begun = None  # should decoding fail, the next frame begins anew
        for frame in self.frames:
            stamp = _stamp(frame)
            if stamp is not None and stamp >= wanted.stamp:
                if frame.width * frame.height > max_pixels:
                    raise RejectedImage("too_large")
                self.begun, self.reached = wanted.key, stamp
                return frame  # type: ignore[no-any-return]
        raise RejectedImage("truncated")


@lru_cache(maxsize=1)
def _reader(path: Path, version: tuple[int, int]) -> _Reader:
    """The reader of the video in hand; `version` tells a file that was replaced from the one that was open."""
    return _Reader(path)


def _open(path: Path) -> "av.container.InputContainer":
    return _av(path).open(str(path), format=VIDEOS[path.suffix.lower()], options={"protocol_whitelist": "file"})  # type: ignore[no-any-return]


def _stream(container: "av.container.InputContainer") -> "av.VideoStream":
    if not container.streams.video:
        raise ValueError("no picture in it")
    return container.streams.video[0]


def _stamp(of: Any) -> int | None:
    return of.pts if of.pts is not None else of.dts  # type: ignore[no-any-return]


def _av(path: Path) -> Any:
    try:
        import av
    except ImportError:
        raise CharregError(f"{path}: reading videos wants PyAV; pip install 'charreg[video]'") from None
    return av
