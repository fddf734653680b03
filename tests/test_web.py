"""The page: what it answers, what it refuses, that it keeps nothing; with gradio, and in a browser if there is one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import charreg
from charreg.app import web
from charreg.core.errors import CharregError
from training_fixtures import free_port, wait_for

pytest.importorskip("gradio")
SAMPLE = web.SAMPLES / "coffee.jpg"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page, served by `charreg web`."""
    port, folder = free_port(), tmp_path_factory.mktemp("web")
    command = [sys.executable, "-m", "charreg.app.cli", "web", "--port", str(port), "--device", "cpu"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(folder)}, stdout=log, stderr=log)
    wait_for(lambda: answers(port) or server.poll() is not None, 90)
    assert server.poll() is None, (folder / "log").read_text()
    yield f"http://127.0.0.1:{port}"
    server.send_signal(signal.SIGINT)
    assert server.wait(30) == 0
    assert not list(folder.glob("charreg-web-*"))  # nothing is kept


def answers(port: int) -> bool:
    with socket.socket() as visitor:
        return visitor.connect_ex(("127.0.0.1", port)) == 0


def test_an_answer_has_before_and_after() -> None:
    sr = charreg.load(device="cpu")
    (before, after), boxes, triplets, words = web.answer(sr, str(SAMPLE), 0.5, 2)
    assert before.size == after.size == (960, 720)
    assert np.abs(np.asarray(before).astype(int) - np.asarray(after)).max() > 20
    assert boxes.size == (480, 360)
    assert len(triplets) > 30
    assert words.startswith(f"{len(triplets)} faces")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("notes.txt", b"no picture", "no known picture format"),
        ("half.jpg", SAMPLE.read_bytes()[:9000], "the file ends early"),
        ("empty.png", b"", "0 bytes"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CharregError, match=f"{name}: {words}"):
        web.answer(charreg.load(device="cpu"), str(tmp_path / name), 0.5, 4)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    Image.new("L", (5000, 5000)).save(tmp_path / "wide.png")
    with pytest.raises(CharregError, match="more than 12 megapixels"):
        web.answer(charreg.load(device="cpu"), str(tmp_path / "wide.png"), 0.5, 4)


TWENTY = """
import sys
from concurrent.futures import ThreadPoolExecutor
from gradio_client import Client, handle_file
client = Client(sys.argv[1], verbose=False, analytics_enabled=False, download_files=False)
def ask(number):
    return client.predict(handle_file(sys.argv[2]), 0.5, 1, api_name="/enlarge")[-1]
with ThreadPoolExecutor(20) as pool:
    print("\\n".join(pool.map(ask, range(20))))
"""


@pytest.mark.slow
def test_twenty_requests_at_once_are_all_answered(address: str, tmp_path: Path) -> None:
    with Image.open(SAMPLE) as sample:
        sample.crop((0, 0, 160, 120)).save(tmp_path / "small.png")
    words = [sys.executable, "-c", TWENTY, address, str(tmp_path / "small.png")]
    found = subprocess.run(words, capture_output=True, text=True, check=True, timeout=300).stdout.splitlines()
    assert len(found) == 20
    assert len(set(found)) == 1
    assert " faces" in found[0]


@pytest.mark.slow
def test_in_a_browser(address: str, tmp_path: Path) -> None:
    """A photograph goes in, the enlarged one comes out; a text file is refused in words."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium here; Debian's package has it")
    (tmp_path / "notes.txt").write_text("no picture")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("#upload input[type=file]", state="attached", timeout=60_000)
        page.set_input_files("#upload input[type=file]", str(SAMPLE))
        page.wait_for_selector("#upload >> text=coffee.jpg", timeout=30_000)
        page.click("#enlarge")
        page.wait_for_function("document.querySelector('#found textarea').value.includes(' faces')", timeout=120_000)
        page.wait_for_function(
            "[...document.querySelectorAll('#result img')].some(image => image.naturalWidth === 1920)", timeout=60_000
        )
        page.reload()
        page.wait_for_selector("#upload input[type=file]", state="attached", timeout=60_000)
        page.set_input_files("#upload input[type=file]", str(tmp_path / "notes.txt"))
        page.wait_for_selector("#upload >> text=notes.txt", timeout=30_000)
        page.click("#enlarge")
        page.wait_for_selector("text=no known picture format", timeout=60_000)
        browser.close()
