"""`charreg fetch-weights` against a real server on loopback that behaves badly in every way servers do."""

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from charreg.app import weights as module
from charreg.app.weights import KNOWN, CarefulRedirects, WeightFile, fetch
from charreg.core.errors import CharregError
from conftest import ROOT

CONTENT = bytes(range(256)) * 2000  # half a megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content`; what goes wrong is set by the test."""

    content = CONTENT
    cut_after: int | None = None  # bytes of a connection, then it is closed
    cuts = 10**9  # connections that are cut
    ignores_range = False
    status = 200
    location = ""
    slow = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []  # the Range of every request

    def url(self, path: str = "weights.pth") -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, found = self.server, re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        server.asked.append(self.headers.get("Range", ""))
        start = int(found[1]) if found and not server.ignores_range else 0
        if server.status != 200 or server.location:
            self.send_response(302 if server.location else server.status)
            if server.location:
                self.send_header("Location", server.location)
                server.location = ""
            self.end_headers()
            return
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.end_headers()
            return
        rest = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if server.cut_after is not None and server.cuts > 0:
            server.cuts -= 1
            rest = rest[: server.cut_after]
        for part in [rest[i : i + 4096] for i in range(0, len(rest), 4096)] if server.slow else [rest]:
            self.wfile.write(part)
            time.sleep(0.01 if server.slow else 0)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def wanted(server: Server) -> WeightFile:
    return WeightFile("toy", "weights.pth", server.url(), SHA256, "-S path={path}")


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_is_fetched_once(server: Server, wanted: WeightFile, tmp_path: Path) -> None:
    assert fetch(wanted, tmp_path / "data") == (tmp_path / "data/weights.pth", SHA256)
    assert (tmp_path / "data/weights.pth").read_bytes() == CONTENT
    assert left(tmp_path / "data") == {"weights.pth"}
    fetch(wanted, tmp_path / "data")
    assert server.asked == [""]


def test_a_cut_connection_goes_on_where_it_stopped(
    server: Server, wanted: WeightFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.cut_after = 200_000
    fetch(wanted, tmp_path)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    assert server.asked == ["", "bytes=200000-", "bytes=400000-"]
    assert "after 200000 bytes, goes on" in capsys.readouterr().err


def test_a_download_given_up_continues_with_the_next_call(server: Server, wanted: WeightFile, tmp_path: Path) -> None:
    server.cut_after, server.cuts = 300_000, 1
    server.content = CONTENT
    original, calls = module._receive, []

    def once(*arguments: object) -> bool:
        calls.append(1)
        if len(calls) > 1:
            raise ConnectionResetError("gone")
        return original(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_receive", once)
        patch.setattr(module, "PAUSE", 0.0)
        with pytest.raises(CharregError, match=r"127\.0\.0\.1:\d+: gone; 300000 bytes are kept, the same command"):
            fetch(wanted, tmp_path)
    assert not (tmp_path / "weights.pth").exists()
    fetch(wanted, tmp_path)
    assert server.asked == ["", "bytes=300000-"]


def test_a_server_that_ignores_range_sends_everything_again(server: Server, wanted: WeightFile, tmp_path: Path) -> None:
    (tmp_path / ".weights.pth.partial").write_bytes(b"older bytes of another version")
    server.ignores_range = True
    fetch(wanted, tmp_path)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


def test_a_whole_partial_file_is_only_checked(server: Server, wanted: WeightFile, tmp_path: Path) -> None:
    """Killed between the last byte and the rename."""
    (tmp_path / ".weights.pth.partial").write_bytes(CONTENT)
    fetch(wanted, tmp_path)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT
    (tmp_path / "weights.pth").unlink()
    (tmp_path / ".weights.pth.partial").write_bytes(CONTENT + b"longer than the file")
    fetch(wanted, tmp_path)
    assert (tmp_path / "weights.pth").read_bytes() == CONTENT


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
    assert server.asked == []


def test_the_beginning_of_a_digest_is_checked_where_no_more_is_known(wanted: WeightFile, tmp_path: Path) -> None:
    assert fetch(replace(wanted, sha256=SHA256[:8]), tmp_path)[1] == SHA256
    with pytest.raises(CharregError, match="differs from 00000000"):
        fetch(replace(wanted, sha256="00000000"), tmp_path)


@pytest.mark.parametrize("status", [404, 403])
def test_a_missing_file_is_one_line(server: Server, wanted: WeightFile, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(
        CharregError, match=rf"HTTP {status} .* elsewhere and put it at .*weights\.pth \(sha256"
    ) as caught:
        fetch(wanted, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(server.asked) == 1


def test_offline_names_the_host_the_path_and_the_digest(wanted: WeightFile, tmp_path: Path) -> None:
    url = "http://127.0.0.1:9/weights.pth"  # nobody listens
    with pytest.raises(CharregError) as caught:
        fetch(replace(wanted, url=url), tmp_path)
    assert str(caught.value).startswith("127.0.0.1:9: ")
    assert f"download {url} elsewhere and put it at {tmp_path / 'weights.pth'} (sha256 {SHA256})" in str(caught.value)


def test_redirects_are_followed_on_loopback_and_refused_off_https(
    server: Server, wanted: WeightFile, tmp_path: Path
) -> None:
    server.location = server.url("elsewhere.pth")
    fetch(wanted, tmp_path / "a")
    for target in ("http://example.org/weights.pth", "ftp://127.0.0.1/weights.pth"):
        server.location = target
        with pytest.raises(CharregError, match=rf"{target}: found \w+, wanted https; not followed"):
            fetch(wanted, tmp_path / "b")
    server.location = "file:///etc/passwd"
    with pytest.raises(CharregError, match=r"'file:///etc/passwd' is not allowed"):
        fetch(wanted, tmp_path / "b")
    with pytest.raises(CharregError, match=r"http://example.org/x: found http, wanted https"):
        fetch(replace(wanted, url="http://example.org/x"), tmp_path / "b")
    request = urllib.request.Request("https://example.org/x")
    safe = CarefulRedirects().redirect_request(request, None, 302, "", {}, "https://example.com/x")  # type: ignore[arg-type]
    assert safe is not None


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def test_a_second_download_of_the_same_file_is_refused_and_a_killed_one_continues(
    server: Server, wanted: WeightFile, tmp_path: Path
) -> None:
    server.slow = True
    folder = tmp_path / "data"
    program = (
        "from pathlib import Path; from charreg.weights import *;"
        f"fetch(WeightFile('toy', 'weights.pth', {server.url()!r}, {SHA256!r}, ''), Path({str(folder)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", program], env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        partial = folder / ".weights.pth.partial"
        wait_until(lambda: partial.exists() and partial.stat().st_size > 50_000)
        with pytest.raises(CharregError, match="another process is downloading it"):
            fetch(wanted, folder)
        process.kill()
    assert left(folder) == {".weights.pth.partial"}
    server.slow = False
    fetch(wanted, folder)
    assert (folder / "weights.pth").read_bytes() == CONTENT
    assert re.fullmatch(r"bytes=\d{5,}-", server.asked[-1])


def wait_until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_command_takes_another_address_but_no_other_file(server: Server, tmp_path: Path) -> None:
    """Its own hash is not that of the toy file: refused, in one line, from a server of the user's choice."""
    words = [sys.executable, "-m", "charreg.app.cli", "fetch-weights", "vgg19", "--url", server.url()]
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("charreg: data/weights/.vgg19-dcbb9e9d.pth.partial: sha256")
    assert "differs from dcbb9e9d; that is what http://127.0.0.1" in line


def test_known_files_are_asked_for_over_https() -> None:
    for name, known in KNOWN.items():
        assert known.name == name
        assert known.url.startswith("https://")
        assert known.url.endswith(known.file)
        assert known.sha256[:8] in known.file


def test_the_command_prints_what_to_set(
    server: Server,
    wanted: WeightFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from charreg.app.cli import fetch_weights

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(KNOWN, "vgg19", replace(KNOWN["vgg19"], url=server.url(), sha256=SHA256[:8]))
    fetch_weights("vgg19")
    first, note, flags = capsys.readouterr().out.splitlines()
    path = "data/weights/vgg19-dcbb9e9d.pth"
    assert first == f"{path}: sha256 {SHA256}"
    assert "the rest is unchecked" in note
    assert flags == f"dvc exp run -S peers.srgan.vgg={path} -S peers.srgan.vgg_sha256={SHA256}"
