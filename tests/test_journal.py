"""Journals of finished photographs and packed results: what comes back is what was kept, or nothing."""

import contextlib
import resource
import shutil
import sqlite3
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from charreg.core.errors import CharregError
from charreg.photos.journal import Journal, count_records
from charreg.photos.records import Found, pack, unpack

RESULTS = {2: b"two", 0: b"", 3: bytes(range(256)) * 40, 1: b"one"}


def fill(path: Path) -> Path:
    """A journal of RESULTS, closed."""
    with Journal(path, 5) as journal:
        for place, result in RESULTS.items():
            journal.append(place, result)
    return path


def kept(path: Path, count: int = 5) -> dict[int, bytes]:
    with Journal(path, count) as journal:
        places = [place for place in range(count) if place in journal]
        assert journal.known == len(places)
        return {place: journal.read(place) for place in places}


def first(number: int) -> dict[int, bytes]:
    return dict(list(RESULTS.items())[:number])


def test_records_come_back_by_place_and_more_can_follow(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert kept(path) == {}
    assert kept(fill(path)) == RESULTS
    with Journal(path, 5) as journal:
        journal.append(4, b"four")
        assert journal.read(4) == b"four"
        assert count_records(path) == 5  # while it is in use
    assert kept(path) == {**RESULTS, 4: b"four"}
    (tmp_path / "begun").touch()
    assert count_records(tmp_path / "begun") == 0


def test_a_journal_whose_last_write_was_cut_anywhere_keeps_the_whole_records_before(tmp_path: Path) -> None:
    """What a kill or a power cut leaves: the log ends in the middle of a record."""
    ends, (live, cut) = [], (tmp_path / "live", tmp_path / "cut")
    with Journal(live, 5) as journal:
        for place, result in RESULTS.items():
            journal.append(place, result)
            ends.append((tmp_path / "live-wal").stat().st_size)
        content = (tmp_path / "live-wal").read_bytes()
        shutil.copy(live, cut)
        for size in (*range(ends[0] - 60, len(content), 997), *(end + by for end in ends for by in (-1, 0))):
            (tmp_path / "cut-wal").write_bytes(content[:size])
            assert kept(cut) == first(sum(end <= size for end in ends))
            shutil.copy(live, cut)


def test_a_flipped_bit_anywhere_is_not_believed(tmp_path: Path) -> None:
    path = fill(tmp_path / "journal")
    content = path.read_bytes()
    for at in (*range(100), *range(100, len(content), 307)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1 :])
        assert kept(path).items() <= RESULTS.items()


def test_a_record_beyond_the_list_or_under_another_place_is_not_believed(tmp_path: Path) -> None:
    path = fill(tmp_path / "journal")
    assert kept(path, 3) == {place: RESULTS[place] for place in (0, 1, 2)}
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute("UPDATE photographs SET place = 4 WHERE place = 2")
    assert kept(path) == {place: RESULTS[place] for place in (0, 1)}


def test_a_record_altered_while_in_use_is_refused(tmp_path: Path) -> None:
    path = fill(tmp_path / "journal")
    with Journal(path, 5) as journal, contextlib.closing(sqlite3.connect(path, isolation_level=None)) as base:
        base.execute("UPDATE photographs SET result = x'ff' WHERE place = 3")
        with pytest.raises(CharregError, match="journal: damaged while in use, wanted the record of photograph 3"):
            journal.read(3)


def test_a_full_disk_is_named_and_keeps_the_whole_records(tmp_path: Path) -> None:
    path, limits = tmp_path / "journal", resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with Journal(path, 3) as journal:
            journal.append(1, b"x" * 300)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
            with pytest.raises(CharregError, match=r"journal: disk I/O error; .* are kept, mend this"):
                journal.append(0, b"y" * 200_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert kept(path, 3) == {1: b"x" * 300}
    with pytest.raises(CharregError, match=r"gone/journal: unable to open database file; .* mend this"):
        Journal(tmp_path / "gone" / "journal", 3)


def test_results_are_unpacked_as_they_were() -> None:
    draws = np.random.default_rng(0)
    hr = draws.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    lr = draws.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    row = {"photo": "ä,1.jpg", "score": 0.1 + 0.2, "left_eye_x": float("nan"), "identity": ""}
    found = Found(
        "ä.jpg", [(hr[0], row, lr[0]), (hr[1], {"score": 1 / 3}, None)], Counter(score=2), ("grey",), "", frozenset({3})
    )
    again = unpack(pack(found))
    assert [face[1]["score"] for face in again.faces] == [0.1 + 0.2, 1 / 3]
    assert np.isnan(again.faces[0][1]["left_eye_x"])
    for (image, _, small), (same, _, small_again) in zip(found.faces, again.faces, strict=True):
        assert np.array_equal(image, same)
        assert (small is None) == (small_again is None)
    assert np.array_equal(again.faces[0][2], lr[0])
    assert (again.photo, again.rejections, again.notes, again.excluded) == ("ä.jpg", {"score": 2}, ("grey",), {3})
    empty = Found("b.jpg", fault="damaged", true_faces=4)
    assert unpack(pack(empty)) == empty
