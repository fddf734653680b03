"""CSRI: two branches through the same networks, whose loss reaches what, who the genuine faces are said to be."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from charreg.core.embedding import embed_for_matching, embedder_of
from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet
from charreg.core.params import Params
from charreg.core.resampling import up
from charreg.core.tensors import to_images, to_tensor
from charreg.networks.centreface import CentreFace
from charreg.peers import csri as train_csri
from charreg.peers.base import UNKNOWN, PeerInputs
from charreg.peers.csri import TrainCsri, l_csri, l_id
from charreg.training.loop import Training
from conftest import (
    Recorder,
    build_peer,
    draw_genuine_faces,
    draw_hr_faces,
    graph_of,
    rouse,
    state_of,
    unchanged,
)

CPU = torch.device("cpu")
TOY = {"iterations": 8, "batch": 4, "width": 4, "depth": 3, "ema": 0.5}
ALONE, SYNTHETIC, BOTH = 0, 2, 4  # a step of each phase: shares are a quarter and a quarter
Make = Callable[..., Params]
Build = Callable[..., TrainCsri]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> PeerInputs:
    """16 HR faces of 4 people, 24 genuine faces of 6 others."""
    folder = tmp_path_factory.mktemp("faces")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        recogniser = CentreFace(width=0.0625, embedding=8, batch_norm=True)
    return PeerInputs(draw_hr_faces(folder / "hr"), draw_genuine_faces(folder / "lr", people=6), recogniser.eval())


@pytest.fixture
def build(inputs: PeerInputs) -> Build:
    """A toy job, SR roused: `build({"native_ids": "none"}, genuine=faces)`."""

    def build(options: dict[str, Any] | None = None, seed: int = 0, **changed: Any) -> TrainCsri:
        job: TrainCsri = build_peer(TrainCsri, {**TOY, **(options or {})}, replace(inputs, **changed), seed)
        rouse(job.sr)
        return job

    return build


def with_identities(faces: FaceSet, names: list[str]) -> FaceSet:
    return replace(faces, index=faces.index.assign(identity=names))


def nameless(faces: FaceSet) -> FaceSet:
    return with_identities(faces, [""] * len(faces))


# --- networks and losses ---------------------------------------------------------------------------------


def test_parameters_of_the_published_size(build: Build) -> None:
    job = build({"width": 64, "depth": 20}, recogniser=CentreFace())
    counts = {name: sum(p.numel() for p in network.parameters()) for name, network in job.networks.items()}
    assert counts == {
        "super_resolver": 668_227,
        "recogniser": 26_488_224,
        "synthetic_head": 4 * 513,
        "native_head": 6 * 513,
    }


def test_fr_starts_from_the_recogniser_and_trains_as_a_copy(build: Build, inputs: PeerInputs) -> None:
    given = deepcopy(inputs.recogniser).eval().requires_grad_(False)
    untouched = deepcopy(given)
    job = build(recogniser=given)
    assert all(torch.equal(a, b) for a, b in zip(job.fr.parameters(), given.parameters(), strict=True))
    assert job.fr.training
    before = state_of(job.fr)
    job.step(SYNTHETIC)
    assert not all(unchanged(before, job.fr))
    assert all(torch.equal(value, given.state_dict()[key]) for key, value in untouched.state_dict().items())
    assert not given.training


def test_lambda_is_the_published_one_on_the_mean(build: Build, make_params: Make) -> None:
    """0.003 times the sum of squared differences of an image in [0, 1], averaged over images."""
    weight = make_params().peers["csri"].lambda_sr  # type: ignore[attr-defined]
    S, H = torch.rand(2, 5, 3, 64, 64).double().unbind()
    published = 0.003 * (S - H).square().sum(dim=(1, 2, 3)).mean()
    ours = l_csri(S.new_zeros(()), S.new_zeros(()), F.mse_loss(2 * S - 1, 2 * H - 1), weight)
    torch.testing.assert_close(ours, published, rtol=2e-3, atol=0)  # 9.2 for 9.216

    losses, totals = graph_of(build(), BOTH)
    torch.testing.assert_close(totals["all"], losses["l_id_native"] + losses["l_id_syn"] + weight * losses["l_sr"])
    assert min(losses.values()) > 0


def test_identity_loss_is_the_cross_entropy_of_labelled_faces() -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([2, 0, 1, 1])
    torch.testing.assert_close(l_id(logits, y), F.cross_entropy(logits, y))
    y[1:3] = UNKNOWN
    torch.testing.assert_close(l_id(logits, y), F.cross_entropy(logits[[0, 3]], y[[0, 3]]) / 2)
    assert l_id(logits, torch.full((4,), UNKNOWN)) == 0


# --- what a step does ------------------------------------------------------------------------------------


def test_half_of_a_batch_is_synthetic_half_native_and_both_pass_as_one(build: Build, inputs: PeerInputs) -> None:
    job = build()
    assert job.native is not None
    sr, fr = job.sr, job.fr
    recorders = job.sr, job.fr = Recorder(sr), Recorder(fr)  # type: ignore[assignment]
    A, H, y = job.synthetic_batch(job.half, BOTH)
    G, y_native = job.native_batch(job.native, BOTH)
    losses, _ = graph_of(job, BOTH)
    (lr_faces,), (S,) = (recorder.inputs for recorder in recorders)  # one call each
    assert torch.equal(lr_faces, torch.cat([A, G]))
    assert len(A) == len(G) == 2
    torch.testing.assert_close(S, sr(lr_faces))
    torch.testing.assert_close(losses["l_sr"], F.mse_loss(sr(A), H))  # pixels of the synthetic half alone
    features = fr(S)
    torch.testing.assert_close(losses["l_id_syn"], F.cross_entropy(job.synthetic(features[:2]), y))
    torch.testing.assert_close(losses["l_id_native"], F.cross_entropy(job.native(features[2:]), y_native))

    for recorder in recorders:
        recorder.inputs.clear()
    graph_of(job, SYNTHETIC)
    assert torch.equal(recorders[0].inputs[0], job.pairs.batch(SYNTHETIC)[0])  # a whole batch of pairs


def test_labels_are_those_of_the_faces(build: Build, inputs: PeerInputs) -> None:
    job = build()
    assert job.native is not None
    hr, genuine = to_tensor(inputs.hr.images), to_tensor(inputs.genuine.images)

    def person(x: Tensor, faces: Tensor, names: list[str]) -> str:
        found = [bool((face == x).all() or (face.flip(-1) == x).all()) for face in faces]
        return names[found.index(True)]

    for step in range(BOTH, 8):
        _, H, y = job.synthetic_batch(job.half, step)
        G, y_native = job.native_batch(job.native, step)
        assert [person(h, hr, inputs.hr.identities) for h in H] == [f"person{label:02}" for label in y]
        assert [person(g, genuine, inputs.genuine.identities) for g in G] == [f"person{50 + i}" for i in y_native]


def test_faces_without_a_name_train_pixels_only(build: Build, inputs: PeerInputs) -> None:
    some = ["" if face % 4 else name for face, name in enumerate(inputs.hr.identities)]
    job = build(hr=with_identities(inputs.hr, some))
    assert job.synthetic.labels.tolist() == [UNKNOWN if face % 4 else face // 4 for face in range(16)]
    for step in range(BOTH):
        assert job.step(step)["l_sr"] > 0
    with pytest.raises(CharregError, match="1 identities, wanted at least 2"):
        build(hr=with_identities(inputs.hr, ["Ann"] * 16))


# --- who the genuine faces are ---------------------------------------------------------------------------


def test_names_of_the_manifest_apply_when_there_are_two(build: Build, inputs: PeerInputs) -> None:
    names = ["Bea", "Ann", "", "Bea"] + [""] * 20
    for how in ("auto", "manifest"):
        job = build({"native_ids": how}, genuine=with_identities(inputs.genuine, names))
        assert job.label == ""
        assert job.native is not None
        assert job.native.labels.tolist() == [1, 0, UNKNOWN, 1] + [UNKNOWN] * 20
        assert job.native.classifier.out_features == 2
        seen = {int(y) for step in range(BOTH, 8) for y in job.native_batch(job.native, step)[1]}
        assert seen == {0, 1}  # nameless faces are not drawn
    with pytest.raises(CharregError, match=r"1 identities.*native_ids"):
        build({"native_ids": "manifest"}, genuine=with_identities(inputs.genuine, ["Ann"] * 24))


def test_clusters_stand_in_for_missing_names_and_the_label_says_so(build: Build, inputs: PeerInputs) -> None:
    clusters = {"cluster_size": 4, "smallest_cluster": 1}
    for how, names in (("auto", [""] * 24), ("auto", ["Ann"] * 24), ("pseudo", inputs.genuine.identities)):
        job = build({"native_ids": how, **clusters}, genuine=with_identities(inputs.genuine, names))
        assert job.label == "CSRI (pseudo identities)"
        assert job.native is not None
        assert job.native.classifier.out_features == 6  # 24 faces / 4
        assert (job.native.labels >= 0).all()
        assert job.step(BOTH)["l_id_native"] > 0


def test_without_identities_genuine_faces_are_never_seen(build: Build, inputs: PeerInputs) -> None:
    job = build({"native_ids": "none"})
    assert job.label == "CSRI (synthetic branch)"
    assert "native_head" not in job.networks
    recorder = job.sr = Recorder(job.sr)
    for step in range(8):
        losses = job.step(step)
        assert losses["l_id_native"] == 0
        assert torch.equal(recorder.inputs[step], job.pairs.batch(step)[0])  # whole batches of pairs to the end
    assert losses["l_id_syn"] > 0


def test_clusters_are_those_of_the_embeddings_of_enlarged_faces(
    build: Build, inputs: PeerInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def k_means(points: Any, k: int, *words: object) -> Any:
        asked.append((points, k, words))
        return np.repeat([0, 1, 2, 3], [10, 7, 2, 5])

    monkeypatch.setattr(train_csri, "k_means", k_means)
    monkeypatch.setattr(train_csri, "CHUNK", 7)
    job = build({"cluster_size": 6, "smallest_cluster": 5}, seed=3, genuine=nameless(inputs.genuine))
    ((points, k, words),) = asked
    embed = embedder_of(inputs.recogniser, CPU)
    wanted = embed_for_matching(embed, to_images(up(to_tensor(inputs.genuine.images))))
    np.testing.assert_allclose(points, wanted, atol=1e-5)
    assert (k, words[0]) == (4, 3)
    assert job.native is not None
    assert job.native.labels.tolist() == [0] * 10 + [1] * 7 + [UNKNOWN] * 2 + [3] * 5  # two faces are no cluster
    assert set(job.native.labelled().tolist()) == {*range(17), *range(19, 24)}


def test_too_few_clusters_are_refused(build: Build, inputs: PeerInputs) -> None:
    with pytest.raises(CharregError, match=r"24 faces make 1 clusters.*cluster_size.*none"):
        build({"native_ids": "pseudo", "cluster_size": 20})
    with pytest.raises(CharregError, match="make 6 clusters of which 0 count"):
        build({"native_ids": "pseudo", "cluster_size": 4, "smallest_cluster": 25})


def test_a_resumed_run_keeps_its_clusters(build: Build, inputs: PeerInputs) -> None:
    """Clusters may come out otherwise on another machine; the state holds them, not the constructor."""
    first = build({"native_ids": "pseudo", "cluster_size": 4, "smallest_cluster": 1})
    state = Training(first).tensors()
    kept = torch.tensor([0, UNKNOWN, 1] * 8)
    state["network.native_head/labels"] = kept
    again = build({"native_ids": "pseudo", "cluster_size": 4, "smallest_cluster": 1})
    note = {"step": 5, "seconds": 0, "curves": [], "signals": [], "sums": {}, "summed": 0}
    Training(again).restore(state, note)
    assert again.native is not None
    assert again.native.labelled().tolist() == [face for face in range(24) if face % 3 != 1]
    assert {int(y) for step in range(BOTH, 8) for y in again.native_batch(again.native, step)[1]} == {0, 1}


def test_a_batch_that_has_no_halves_is_refused(build: Build) -> None:
    with pytest.raises(CharregError, match="batch 5, wanted a multiple of 2"):
        build({"batch": 5})
    build({"batch": 5, "native_ids": "none"})
