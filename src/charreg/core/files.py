"""Files and folders that are whole or absent, and their digests."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from psutil import pid_exists


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, read in constant memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the renames inside a folder survive a power cut, where folders can be synchronised."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content, the new content, never a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name[-60:]}.partial-{os.getpid()}")  # a name may have 255 bytes
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (NaN and infinities refused), keys in the order given, whole or absent."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


@contextlib.contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """Yield a fresh folder that takes the place of `path` when the block ends well and is removed when not.

    What a killed process left of an earlier attempt is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    for earlier in path.parent.glob(f".{path.name}.partial-*"):
        number = earlier.name.rpartition("-")[2]
        if earlier == partial or (number.isdecimal() and not pid_exists(int(number))):
            shutil.rmtree(earlier, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            shutil.rmtree(path)
        os.replace(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    sync_folder(path.parent)
