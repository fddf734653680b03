"""Weight files that no package ships: known by their SHA-256, fetched on request and by no stage."""

import fcntl
import http.client
import ipaddress
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from charreg.core.errors import CharregError
from charreg.core.files import sha256_of_file, sync_folder

FOLDER = Path("data/weights")
ATTEMPTS = 5  # connections that bring nothing before a download is given up
PAUSE = 1.0  # s before the next of them, and longer each time
TIMEOUT = 30.0  # s without a byte
CHUNK = 1 << 20


@dataclass(frozen=True)
class WeightFile:
    """A file to fetch; `sha256` may be the beginning of the digest where its publisher tells no more."""

    name: str
    file: str
    url: str
    sha256: str
    use: str  # flags that make the pipeline read it, with {path} and {sha256}


KNOWN = {
    "inception": WeightFile(
        "inception",
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
        "-S evaluate.features=inception -S evaluate.weights={path}",
    ),
    "vgg19": WeightFile(
        "vgg19",
        "vgg19-dcbb9e9d.pth",
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "dcbb9e9d",  # torchvision puts these 8 digits into the name and publishes no others
        "-S peers.srgan.vgg={path} -S peers.srgan.vgg_sha256={sha256}",
    ),
}


def fetch(weights: WeightFile, folder: Path = FOLDER) -> tuple[Path, str]:
    """Download a weight file unless a good one is there; its path and SHA-256.

    What arrives is kept in a hidden file beside the path, so that a broken download goes on where it stopped, in the
    same call or the next; the path itself holds the whole, checked file or nothing.

    Raises CharregError when the file that is there or the one that came has another SHA-256, when the server cannot
    be reached, and when it leads away from https (plain http is for loopback addresses only).
    """
    path = folder / weights.file
    if path.exists():
        return path, _check(path, weights, "delete it and fetch it again")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{weights.file}.partial"
    with open(partial, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CharregError(f"{partial}: another process is downloading it; wait for that one") from None
        _download(weights, path, file)
        file.flush()
        os.fsync(file.fileno())
        try:
            found = _check(partial, weights, f"that is what {weights.url} gave; it was removed")
        except CharregError:
            partial.unlink()
            raise
        os.replace(partial, path)
    sync_folder(folder)
    return path, found


def digest_matches(weights: WeightFile, found: str) -> bool:
    """Whether a full SHA-256 is the wanted one, as far as that is known."""
    return found.startswith(weights.sha256)


def _check(path: Path, weights: WeightFile, remedy: str) -> str:
    found = sha256_of_file(path)
    if not digest_matches(weights, found):
        raise CharregError(f"{path}: sha256 {found} differs from {weights.sha256}; {remedy}")
    return found


def _download(weights: WeightFile, path: Path, file: IO[bytes]) -> None:
    """Append the missing bytes to a partial file, connection after connection while they bring any."""
    idle = 0
    while True:
        before = file.seek(0, os.SEEK_END)
        try:
            if _receive(weights, file):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                raise CharregError(
                    f"{weights.url}: HTTP {error.code} {error.reason}; {_by_hand(weights, path)}"
                ) from None
            reason = f"HTTP {error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        arrived = file.seek(0, os.SEEK_END)
        idle = 0 if arrived > before else idle + 1
        if idle == ATTEMPTS or not arrived:
            host = urllib.parse.urlsplit(weights.url).netloc
            kept = f"{arrived} bytes are kept, the same command continues; or " if arrived else ""
            raise CharregError(f"{host}: {reason}; {kept}{_by_hand(weights, path)}")
        sys.stderr.write(f"{weights.file}: {reason} after {arrived} bytes, goes on\n")
        time.sleep(PAUSE * idle)


def _by_hand(weights: WeightFile, path: Path) -> str:
    digest = f"sha256 {weights.sha256}{'' if len(weights.sha256) == 64 else '...'}"
    return f"download {weights.url} elsewhere and put it at {path} ({digest})"


def _receive(weights: WeightFile, file: IO[bytes]) -> bool:
    """One connection; whether the file is whole afterwards. A server that ignores Range sends it all again."""
    start = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(weights.url, headers={"User-Agent": "charreg", "Accept-Encoding": "identity"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    check_address(weights.url)
    try:
        response = urllib.request.build_opener(CarefulRedirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return True  # an earlier process ended between the last byte and the rename
        file.truncate(0)
        return _receive(weights, file)
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            file.truncate(0)
            start = 0
        elif not str(response.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
            raise CharregError(
                f"{weights.url}: asked for bytes {start}-, found {response.headers.get('Content-Range')}; "
                "remove the partial file and fetch it again"
            )
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(total=total, initial=start, desc=weights.file, unit="B", unit_scale=True, disable=None, leave=False)
        with bar:
            while chunk := response.read1(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or file.seek(0, os.SEEK_END) >= total


class CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and to plain http on a loopback address; no others."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        try:
            check_address(newurl)
        except CharregError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(url: str) -> None:
    """Raise CharregError unless a URL is https, or plain http to a loopback address."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or "")):
        return
    raise CharregError(f"{url}: found {parts.scheme or 'no scheme'}, wanted https; not followed")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
