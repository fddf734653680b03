"""`charreg fetch-weights` against a real server on loopback that behaves badly in every way servers do."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from charreg.app.cli import fetch_weights
from charreg.app.weights import KNOWN, WeightFile, check_address, fetch
from charreg.core.errors import CharregError
from conftest import ROOT

CONTENT = bytes(range(256)) * 2000  # half a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`; what goes wrong is set by the test."""

    content = CONTENT
    cut_after: int | None = None  # bytes, then the connection is closed or, where it `hangs`, says no more
    hangs = False
    status = 200
    location = ""  # of one redirect

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = 0
        self.goes_on = threading.Event()

    def url(self, path: str = "weights.pth") -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.asked += 1
        self.send_response(302 if server.location else server.status)
        if server.location:
            self.send_header("Location", server.location)
            server.location = ""
            self.end_headers()
            return
        self.send_header("Content-Length", str(len(server.content)))
        self.end_headers()
        self.wfile.write(server.content[: server.cut_after])
        if server.hangs:
            server.goes_on.wait(30)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.goes_on.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def wanted(server: Server) -> WeightFile:
    return WeightFile("toy", "weights.pth", server.url(), SHA256, "-S path={path}")


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_once(server: Server, wanted: WeightFile, tmp_path: Path) -> None:
    for _ in range(2):
        assert fetch(wanted, tmp_path / "data") == (tmp_path / "data/weights.pth", SHA256)
    assert (tmp_path / "data/weights.pth").read_bytes() == CONTENT
    assert left(tmp_path / "data") == {"weights.pth"}
    assert server.asked == 1


def test_a_cut_connection_leaves_nothing_and_is_one_line(server: Server, wanted: WeightFile, tmp_path: Path) -> None:
    server.cut_after = 200_000
    with pytest.raises(CharregError, match=r"^http://127.*; nothing was kept, try again, or download") as caught:
        fetch(wanted, tmp_path)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == set()


def test_wrong_bytes_are_refused_and_removed(server: Server, wanted: WeightFile, tmp_path: Path) -> None:
    server.content = b"x" + CONTENT[1:]
    found = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(CharregError, match=rf"sha256 {found} differs from {SHA256}; that is what http://127.*removed"):
        fetch(wanted, tmp_path)
    assert left(tmp_path) == set()


def test_a_wrong_file_in_its_place_is_named_and_kept(server: Server, wanted: WeightFile, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"mine")
    with pytest.raises(CharregError, match=r"weights\.pth: sha256 \w{64} differs from \w{64}; delete it and fetch"):
        fetch(wanted, tmp_path)
    assert (tmp_path / "weights.pth").read_bytes() == b"mine"
    assert server.asked == 0


def test_the_beginning_of_a_digest_is_checked_where_no_more_is_known(wanted: WeightFile, tmp_path: Path) -> None:
    for folder in ("new", "there"):
        with pytest.raises(CharregError, match="differs from 00000000"):
            fetch(replace(wanted, sha256="00000000"), tmp_path / folder)
        assert fetch(replace(wanted, sha256=SHA256[:8]), tmp_path / "there")[1] == SHA256


@pytest.mark.parametrize("status", [404, 503])
def test_a_missing_file_is_one_line(server: Server, wanted: WeightFile, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(CharregError, match=rf"{status} .* elsewhere and put it at .*weights\.pth \(sha256") as caught:
        fetch(wanted, tmp_path)
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == set()


def test_offline_names_the_address_the_path_and_the_digest(wanted: WeightFile, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/weights.pth"  # nobody listens
    with pytest.raises(CharregError) as caught:
        fetch(replace(wanted, url=url), tmp_path)
    assert str(caught.value).startswith(f"{url}: ")
    assert str(caught.value).endswith(f"put it at {tmp_path / 'weights.pth'} (sha256 {SHA256})")
    assert "\n" not in str(caught.value)


def test_redirects_are_followed_on_loopback_and_refused_off_https(
    server: Server, wanted: WeightFile, tmp_path: Path
) -> None:
    server.location = "/elsewhere.pth"
    fetch(wanted, tmp_path / "a")
    for target in ("http://example.org/weights.pth", "ftp://127.0.0.1/weights.pth", "file:///etc/passwd"):
        server.location = target
        with pytest.raises(CharregError, match=rf"{target}: found \w+, wanted https; not followed"):
            fetch(wanted, tmp_path / "b")
        with pytest.raises(CharregError, match=rf"{target}: found \w+, wanted https"):
            fetch(replace(wanted, url=target), tmp_path / "b")
    check_address("https://example.org/weights.pth")


def test_a_killed_download_leaves_no_file_in_its_place(server: Server, wanted: WeightFile, tmp_path: Path) -> None:
    server.cut_after, server.hangs = 300_000, True
    program = (
        "from pathlib import Path; from charreg.app.weights import *;"
        f"fetch(WeightFile('toy', 'weights.pth', {server.url()!r}, {SHA256!r}, ''), Path({str(tmp_path)!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    with subprocess.Popen([sys.executable, "-c", program], env=environment) as process:
        end = time.monotonic() + 30
        while not server.asked:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.1)
        process.kill()
    assert not (tmp_path / "weights.pth").exists()
    server.cut_after, server.hangs = None, False
    fetch(wanted, tmp_path)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_known_files_are_asked_for_over_https() -> None:
    for name, known in KNOWN.items():
        assert known.name == name
        assert known.url.startswith("https://")
        assert known.url.endswith(known.file)
        assert known.sha256[:8] in known.file


def test_the_command_takes_another_address_but_no_other_file_and_prints_what_to_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = "data/weights/vgg19-dcbb9e9d.pth"
    with pytest.raises(CharregError, match=rf"{path}: sha256 \w+ differs from dcbb9e9d; that is what http://127"):
        fetch_weights("vgg19", server.url())
    monkeypatch.setitem(KNOWN, "vgg19", replace(KNOWN["vgg19"], url=server.url(), sha256=SHA256[:8]))
    fetch_weights("vgg19")
    first, note, flags = capsys.readouterr().out.splitlines()
    assert first == f"{path}: sha256 {SHA256}"
    assert "the rest is unchecked" in note
    assert flags == f"dvc exp run -S peers.srgan.vgg={path} -S peers.srgan.vgg_sha256={SHA256}"
