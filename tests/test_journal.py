"""Journals of finished photographs and packed results: what comes back is what was kept, or nothing."""

import resource
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from charreg.core.errors import CharregError
from charreg.photos.journal import HEAD, Journal, count_records
from charreg.photos.records import Found, pack, unpack

RESULTS = {2: b"two", 0: b"", 3: bytes(range(256)) * 40}


def filled(path: Path, count: int = 5) -> list[int]:
    """A journal of RESULTS; returns where in the file each record ends."""
    ends = [0]
    with Journal(path, count) as journal:
        for place, result in RESULTS.items():
            journal.append(place, result)
            ends.append(path.stat().st_size)
    return ends


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
    filled(path)
    assert kept(path) == RESULTS
    with Journal(path, 5) as journal:
        journal.append(4, b"four")
        assert journal.read(4) == b"four"
    assert kept(path) == {**RESULTS, 4: b"four"}
    assert count_records(path) == 4


def test_a_journal_cut_anywhere_keeps_the_whole_records_before(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = filled(path)
    content = path.read_bytes()
    for cut in (*range(ends[2] + HEAD.size + 40), *range(ends[2], ends[3], 511), ends[3]):
        path.write_bytes(content[:cut])
        whole = max(number for number, end in enumerate(ends) if end <= cut)
        assert kept(path) == first(whole)
        assert path.stat().st_size == ends[whole]  # what follows is not hidden behind the torn record
        assert count_records(path) == whole


def test_a_flipped_bit_anywhere_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    ends = filled(path)
    content = path.read_bytes()
    for at in (*range(ends[2] + HEAD.size), *range(ends[2], ends[3], 97)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1 :])
        assert kept(path) == first(max(number for number, end in enumerate(ends) if end <= at))


def test_a_record_beyond_the_list_is_not_believed(tmp_path: Path) -> None:
    filled(tmp_path / "journal")
    assert kept(tmp_path / "journal", 3) == first(2)


def test_a_record_altered_while_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, 1) as journal:
        journal.append(0, b"zero")
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        with pytest.raises(CharregError, match="journal: damaged while in use"):
            journal.read(0)


def test_a_full_disk_is_named_and_keeps_the_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with Journal(path, 3) as journal:
            journal.append(1, b"x" * 300)
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
            with pytest.raises(CharregError, match=r"journal: File too large; .* are kept"):
                journal.append(0, b"y" * 300)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert kept(path, 3) == {1: b"x" * 300}


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
