"""Weight files that no package ships: known by their SHA-256, fetched on request and by no stage."""

import ipaddress
import logging
import sys
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charreg.core.errors import CharregError
from charreg.core.files import sha256_of_file

FOLDER = Path("data/weights")
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
    """Download a weight file unless a good one is there; its path and SHA-256. The path holds all of it or nothing.

    Raises CharregError when the file that is there or the one that came has another SHA-256, when the server cannot
    be reached, and when it leads away from https (plain http is for loopback addresses only).
    """
    import pooch  # slow to import, and the other commands do without

    path = folder / weights.file
    if path.exists():
        return path, _check(path, path, weights, "delete it and fetch it again")
    check_address(weights.url)
    headers = {"User-Agent": "charreg", "Accept-Encoding": "identity"}
    receive = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), chunk_size=CHUNK, timeout=TIMEOUT, headers=headers,
        hooks={"response": _check_response},
    )  # fmt: skip

    def receive_and_check(url: str, partial: str, _: Any) -> None:
        receive(url, partial, None)
        _check(Path(partial), path, weights, f"that is what {url} gave; it was removed")

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        # Without a hash: pooch compares whole ones only, and of some files no more than the first digits are known.
        pooch.retrieve(weights.url, None, weights.file, folder, downloader=receive_and_check)
    except OSError as error:  # those of requests are some
        digest = f"sha256 {weights.sha256}{'' if len(weights.sha256) == 64 else '...'}"
        raise CharregError(
            f"{weights.url}: {' '.join(str(error).split())}; nothing was kept, try again, or download it elsewhere and "
            f"put it at {path} ({digest})"
        ) from None
    return path, sha256_of_file(path)


def _check(found: Path, path: Path, weights: WeightFile, remedy: str) -> str:
    """The SHA-256 of a file. Raises CharregError when it is not the wanted one, as far as that is known."""
    sha256 = sha256_of_file(found)
    if not sha256.startswith(weights.sha256):
        raise CharregError(f"{path}: sha256 {sha256} differs from {weights.sha256}; {remedy}")
    return sha256


def _check_response(response: Any, *_: Any, **__: Any) -> None:
    """Refuse faults, and redirects before they are followed; neither leaves a connection open."""
    try:
        if response.is_redirect:
            check_address(urllib.parse.urljoin(response.url, response.headers["Location"]))
        response.raise_for_status()
    except (CharregError, OSError):
        response.close()
        raise


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
