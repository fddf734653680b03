"""The same face set whatever the executor, and however often the extraction was killed."""

import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet
from charreg.core.params import Params
from charreg.photos import executors, extraction
from charreg.photos.crowds import make_packaged_photos
from charreg.photos.executors import Workers, map_unordered
from charreg.photos.gathering import PhotoScratch, gather
from charreg.photos.journal import JOURNAL, count_records
from conftest import ROOT, params_of
from data_fixtures import Stages, encoded, photo_of, write_files
from training_fixtures import ForkServer, Run, wait_for

pytestmark = pytest.mark.slow

pytest_plugins = ["training_fixtures"]

KILL = int(signal.SIGKILL)
SMALL = {"packaged_photos.size": [112, 64], "packaged_photos.photos": {"train": 1, "web": 20, "cctv": 1}}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 small crowd photographs and 20 portraits."""
    folder = tmp_path_factory.mktemp("packaged")
    make_packaged_photos(folder, params_of(SMALL).packaged_photos, 0)
    return folder


@pytest.fixture(scope="module")
def serial(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    return Stages(tmp_path_factory.mktemp("lr")).lr(raw / "photos" / "web", "faces", "packaged")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def journals(root: Path) -> list[Path]:
    return list(root.glob(f".dvc/tmp/charreg/*/*/{JOURNAL}"))


def photographs_done(root: Path) -> int:
    return sum(count_records(path) for path in journals(root))


# --- executors -------------------------------------------------------------------------------------------


def test_processes_give_the_same_bytes_and_the_bar_tells_rate_faces_and_time_left(
    serial: FaceSet, raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARREG_EXECUTOR", "processes:2")
    faces = Stages(tmp_path).lr(raw / "photos" / "web", "two", "packaged")
    assert contents(faces.folder) == contents(serial.folder)
    assert not journals(tmp_path)
    bar = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert re.search(r"20/20 \[\d\d:\d\d<\d\d:\d\d, +[\d.]+ ?(photo/s|s/photo), faces=(\d+)\]$", bar), bar
    assert int(bar.rpartition("faces=")[2].rstrip("]")) == len(faces) > 20


def test_dask_that_is_missing_or_unreachable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(CharregError, match=r"pip install 'charreg\[cluster\]'"):
        list(map_unordered(int, ["1"], "dask:tcp://127.0.0.1:1"))


def test_dask_gives_the_same_bytes(serial: FaceSet, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        monkeypatch.setenv("CHARREG_EXECUTOR", f"dask:{cluster.scheduler_address}")
        faces = Stages(tmp_path).lr(raw / "photos" / "web", "dask", "packaged")
    assert contents(faces.folder) == contents(serial.folder)


def test_a_dask_worker_that_is_killed_loses_nothing() -> None:
    import distributed

    def slow(number: int) -> tuple[int, int]:
        time.sleep(0.05)
        return number, os.getpid()

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        results = map_unordered(slow, range(60), f"dask:{cluster.scheduler_address}")
        found = [next(results)]
        os.kill(found[0][1], signal.SIGKILL)
        found += results
    assert sorted(number for number, _ in found) == list(range(60))


def use_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def open_pool(_: str) -> Iterator[Workers]:
        with ThreadPoolExecutor(2) as pool:
            yield Workers(pool, 8, (BrokenProcessPool,), "a worker died")

    monkeypatch.setattr(executors, "open_executor", open_pool)


def test_few_chunks_are_under_way_and_they_grow_when_work_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    use_two_threads(monkeypatch)
    run, chunks, taken, most = executors.run_chunk, [], 0, 0

    def counted(task: Any, items: list[Any]) -> Any:
        chunks.append(len(items))
        return run(task, items)

    def items() -> Iterator[int]:
        nonlocal taken
        for taken in range(1, 3001):
            yield -taken

    monkeypatch.setattr(executors, "run_chunk", counted)
    results = []
    for result in map_unordered(abs, items(), "processes:2"):
        most = max(most, taken - len(results))
        results.append(result)
    assert sorted(results) == list(range(1, 3001))
    assert most <= 8 * executors.LARGEST_CHUNK
    assert chunks[:8] == [1] * 8
    assert max(chunks) == executors.LARGEST_CHUNK
    assert len(chunks) < 300


def test_lost_workers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(_: int) -> None:
        raise BrokenProcessPool

    use_two_threads(monkeypatch)
    with pytest.raises(CharregError, match="executor processes:2: a worker died; what is done is kept"):
        list(map_unordered(die, [1, 2, 3], "processes:2"))


# --- killed processes ------------------------------------------------------------------------------------


PLACES = {"lr": ("photos/web", "web"), "hr": ("portraits/hr_train", "train")}


class Extraction:
    """Real processes of one face stage that share an output folder and their scratch."""

    def __init__(self, kind: str, raw: Path, folder: Path, server: ForkServer) -> None:
        self.kind, self.folder, self.server = kind, folder, server
        folder.mkdir(exist_ok=True)
        self.stages = Stages(folder)
        self.out = folder / "faces"
        place, role = PLACES[kind]
        self.arguments = self.stages.arguments(kind, raw / place, "faces", role)

    def start(self, executor: str = "serial") -> Run:
        params = self.stages.params({}, "packaged")
        log = self.folder / f"log-{len(list(self.folder.glob('log-*')))}.txt"
        request = {
            "argv": [str(ROOT / "stages" / f"{self.kind}_faces.py"), *self.arguments, "--params", params],
            "cwd": str(self.folder),
            "log": str(log),
            "path": [],
            "env": {"DVC_ROOT": str(self.folder), "PYTHONPATH": str(ROOT / "src"), "CHARREG_EXECUTOR": executor},
            "threads": 1,
            "plans": [],
        }
        log.touch()
        return Run(self.server, self.server.ask(request), log, self.folder)

    def killed_after(self, photographs: int, seconds: float) -> Run:
        """A run that gets SIGKILL a while after so many photographs are in the journal."""
        run = self.start()
        wait_for(lambda: photographs_done(self.folder) >= photographs, 300)
        time.sleep(seconds)
        os.kill(run.pid, signal.SIGKILL)
        return run.wait()


@pytest.mark.parametrize(("kind", "count", "kills"), [("lr", 20, 5), ("hr", 30, 2)])
def test_killed_at_random_points_the_set_is_byte_identical(
    kind: str, count: int, kills: int, raw: Path, tmp_path: Path, server: ForkServer
) -> None:
    place, role = PLACES[kind]
    whole = getattr(Stages(tmp_path), kind)(raw / place, "whole", "packaged", role)
    parts = Extraction(kind, raw, tmp_path / "parts", server)
    dice = random.Random(kind)
    done = 0
    for _ in range(kills):
        run = parts.killed_after(done + dice.randint(1, 2), dice.uniform(0, 0.03))
        assert run.code == -KILL, run.text
        assert (f"goes on with {done} of {count} photographs done" in run.text) == (done > 0)
        assert not parts.out.exists()
        assert photographs_done(parts.folder) >= done
        done = photographs_done(parts.folder)
    assert kills <= done < count
    ended = parts.start().wait(300)
    assert ended.code == 0, ended.text
    assert f"goes on with {done} of {count} photographs done" in ended.text
    assert contents(parts.out) == contents(whole.folder)
    assert not journals(parts.folder)
    assert not list(parts.folder.glob(".faces.partial-*"))  # of the killed ones


def test_workers_end_with_a_killed_parent_and_another_executor_goes_on(
    serial: FaceSet, raw: Path, tmp_path: Path, server: ForkServer
) -> None:
    extraction = Extraction("lr", raw, tmp_path, server)
    run = extraction.start("processes:2")
    wait_for(lambda: photographs_done(tmp_path), 300)
    workers = [int(pid) for pid in Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()]
    assert len(workers) >= 2
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait().code == -KILL
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 5)
    ended = extraction.start().wait(300)
    assert "photographs done" in ended.text
    assert contents(extraction.out) == contents(serial.folder)


def test_a_second_run_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_files(tmp_path / "raw", {"blank.png": (encoded(Image.new("RGB", (20, 20)), "PNG"), "")})
    refusal = rf"^lr_faces@web: already runs as process {os.getpid()}; wait for it or stop it$"

    def interrupted(*args: Any) -> Any:
        with pytest.raises(CharregError, match=refusal):
            Stages(tmp_path).lr(raw, "faces")
        return gather(*args)

    monkeypatch.setattr(extraction, "gather", interrupted)
    assert len(Stages(tmp_path).lr(raw, "faces")) == 0


def test_what_changed_is_named_and_the_old_photographs_are_not_used(
    tmp_path: Path, toy_params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    photos = [photo_of(path) for path in (tmp_path / "a.png", tmp_path / "gone.png")]
    photos[0].path.touch()

    def said(params: Params = toy_params, exclusions: Sequence[Any] = ()) -> tuple[bool, str]:
        scratch = PhotoScratch("lr_faces@web", photos, params, exclusions)
        with scratch.hold(), scratch.journal() as journal:
            journal.append(0, b"found")
            return journal.known > 0, capsys.readouterr().err

    new = "lr_faces@web: starts anew, the earlier resume state is not used: "
    assert said() == (False, "")
    assert said() == (True, "lr_faces@web: goes on with 1 of 2 photographs done\n")
    assert said(params_of({"lr_faces.min_score": 0.5})) == (False, f"{new}params changed (lr_faces.min_score)\n")
    assert said(exclusions=["a.png 1 2"])[1].startswith(f"{new}params changed (lr_faces.min_score), exclusions changed")
    os.utime(photos[0].path, (1, 1))
    assert said() == (False, f"{new}exclusions changed, photographs changed\n")
