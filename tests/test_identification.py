"""Identification: hand-made embeddings with known answers, trials that no method can influence, and the gate."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charreg.core.embedding import embed_for_matching, embedder_of
from charreg.core.errors import CharregError
from charreg.core.faces import FaceWriter, open_faces
from charreg.metrics.identification import (
    area_under_curve,
    centreface_gate,
    faces_of_people,
    identify,
    make_trials,
    probe_ranks,
    verification_auc,
)
from charreg.networks.centreface import CentreFace
from conftest import draw_hr_faces

Array = np.ndarray[Any, Any]
PEOPLE = [f"p{person:02}" for person in range(25) for _ in range(4)]
NO_ALBUMS = [""] * len(PEOPLE)


def axis_vectors(identities: list[str]) -> Array:
    """A perfect embedding: one axis a person."""
    return np.eye(len(set(identities)))[np.unique(identities, return_inverse=True)[1]]


def test_a_perfect_embedding_finds_everybody() -> None:
    found = identify(axis_vectors(PEOPLE), make_trials(PEOPLE, NO_ALBUMS, 10), 50, 0)
    assert (found.pop("n_identities"), found.pop("n_probes")) == (25, 75)
    assert list(found) == [f"rank{k}{suffix}" for k in (1, 5, 20) for suffix in ("", "_std", "_lo", "_hi")]
    assert list(found.values()) == [100, 0, 100, 100] * 3


def test_an_embedding_that_is_always_the_same_finds_nobody() -> None:
    """Ties count against the method; counting them for it would give a collapsed recogniser 100 percent."""
    trials = make_trials(PEOPLE, NO_ALBUMS, 3)
    vectors = np.ones((len(PEOPLE), 4)) / 2
    assert identify(vectors, trials, 10, 0)["rank20"] == 0
    cosines = vectors[trials[0].probes] @ vectors[trials[0].gallery].T
    generous = (cosines > cosines[np.arange(75), trials[0].wanted][:, None]).sum(axis=1) + 1
    assert (generous == 1).all()


def test_chance_embeddings_come_out_at_chance() -> None:
    vectors = np.random.default_rng(0).normal(size=(len(PEOPLE), 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = identify(vectors, make_trials(PEOPLE, NO_ALBUMS, 10), 200, 0)
    for k in (1, 5, 20):
        assert found[f"rank{k}"] == pytest.approx(100 * k / 25, abs=4)
        assert found[f"rank{k}_lo"] < found[f"rank{k}"] < found[f"rank{k}_hi"]


def test_ranks_by_hand() -> None:
    identities = ["a", "a", "b", "b"]
    angles = np.radians([0, 60, 90, 80])  # a's second face is nearer to b's first
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    trial = make_trials(identities, [""] * 4, 1)[0]
    wanted = {(0, 2): [2, 1], (0, 3): [2, 1], (1, 2): [1, 1], (1, 3): [1, 1]}
    found = probe_ranks(vectors, trial).tolist()
    assert found == wanted[(int(trial.gallery[0]), int(trial.gallery[1]))]


def test_trials_are_the_protocol() -> None:
    identities = ["b", "", "a", "b", "c", "a", "", "b"]  # c has one face, two are unknown
    assert [faces.tolist() for faces in faces_of_people(identities)] == [[2, 5], [0, 3, 7]]
    trials = make_trials(identities, [""] * 8, 10)
    assert len(trials) == 10
    for trial in trials:
        assert [identities[face] for face in trial.gallery] == ["a", "b"]
        assert sorted([*trial.gallery, *trial.probes]) == [0, 2, 3, 5, 7]
        assert [identities[face] for face in trial.probes] == [["a", "b"][place] for place in trial.wanted]
    assert len({tuple(trial.gallery) for trial in trials}) > 1


def test_trials_are_a_function_of_identities_albums_and_seed_alone() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    first = make_trials(PEOPLE, NO_ALBUMS, 3)
    np.random.seed(2)
    longer = make_trials(PEOPLE, NO_ALBUMS, 10)
    for a, b in zip(first, longer, strict=False):
        np.testing.assert_array_equal(a.gallery, b.gallery)
        np.testing.assert_array_equal(a.probes, b.probes)


def test_probes_come_from_other_albums_where_there_are_any() -> None:
    identities = ["a"] * 4 + ["b"] * 3
    albums = ["x", "x", "y", "y", "z", "z", "z"]
    for trial in make_trials(identities, albums, 10):
        mine = albums[trial.gallery[0]]
        assert [albums[face] for face in trial.probes[trial.wanted == 0]] == [{"x": "y", "y": "x"}[mine]] * 2
        assert (trial.wanted == 1).sum() == 2  # b has one album only


@pytest.mark.parametrize("identities", [[], [""] * 4, ["a", "b", "c"], ["a", "a", "b"]])
def test_fewer_than_two_people_are_refused(identities: list[str]) -> None:
    with pytest.raises(CharregError, match="wanted at least 2"):
        make_trials(identities, [""] * len(identities), 3)


def test_the_mirror_image_is_added() -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    images[0, :, 0], images[1, :, 3] = 9, 9  # mirror images of each other

    def left_and_right(faces: Array) -> Array:
        return np.stack([faces[:, :, 0].mean((1, 2)), faces[:, :, 3].mean((1, 2))], axis=1)

    plain = left_and_right(images)
    assert plain[0] @ plain[1] == 0
    both = embed_for_matching(left_and_right, images)
    assert both[0] @ both[1] == pytest.approx(1)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1)


def test_area_under_curve_by_hand() -> None:
    assert area_under_curve(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1
    assert area_under_curve(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 0
    assert area_under_curve(np.array([1.0, 1.0]), np.array([1.0])) == 0.5
    assert area_under_curve(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == (0 + 0 + 1 + 0.5) / 4


def test_verification_of_perfect_and_of_chance_embeddings() -> None:
    assert verification_auc(axis_vectors(PEOPLE), PEOPLE, 600, 0) == 1
    vectors = np.random.default_rng(1).normal(size=(len(PEOPLE), 64))
    chance = verification_auc(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), PEOPLE, 6000, 0)
    assert chance == pytest.approx(0.5, abs=0.1)
    with pytest.raises(CharregError, match="found fewer"):
        verification_auc(vectors[:4], ["a"] * 4, 10, 0)


def test_embedder_restores_the_mode_and_ignores_batch_size() -> None:
    torch.manual_seed(0)
    module = CentreFace(width=0.0625, embedding=8, batch_norm=True).train()
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    cpu = torch.device("cpu")
    found = embedder_of(module, cpu)(images)
    assert found.shape == (5, 8)
    np.testing.assert_allclose(embedder_of(module, cpu, batch=2)(images), found, rtol=1e-4, atol=1e-6)
    assert module.training
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    with pytest.raises(CharregError, match="wanted uint8"):
        embedder_of(module, cpu)(images.astype(np.float32))
    with pytest.raises(CharregError, match=r"\[N, 64, 64, 3\]"):
        embedder_of(module, cpu)(images[:, ::4, ::4])


class MeanColour(torch.nn.Module):
    """A recogniser that looks at 4x4 averages."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)


def test_gate_measures_and_repeats(tmp_path: Path) -> None:
    faces = draw_hr_faces(tmp_path / "test", people=4, photos=3)
    found = centreface_gate(MeanColour(), faces, 0, torch.device("cpu"))
    assert found == centreface_gate(MeanColour(), faces, 0, torch.device("cpu"))
    assert list(found) == [
        *("n_faces", "n_identities", "n_probes", "rank1", "rank1_std", "rank1_lo", "rank1_hi", "auc", "n_pairs"),
    ]
    assert found["n_faces"] == 12
    assert found["rank1"] > 50
    assert 0.7 < found["auc"] <= 1


def test_gate_does_not_match_copies_of_one_portrait(tmp_path: Path) -> None:
    """Two crops of each portrait, one portrait a person: nothing to match, though matching copies would be easy."""
    (tmp_path / "set").mkdir()
    random = np.random.default_rng(0)
    with FaceWriter(tmp_path / "set", 64) as writer:
        for person in range(4):
            image = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            for _ in range(2):
                writer.add(image, {"source": "drawn", "photo": f"{person}.png", "identity": f"p{person}"})
    found = centreface_gate(MeanColour(), open_faces(tmp_path / "set"), 0, torch.device("cpu"))
    assert found["n_faces"] == 4
    assert "rank1" not in found
    assert "wanted at least 2" in found["absent"]["rank1"]
    assert set(found["absent"]) == {"rank1", "auc"}
