"""FSRNet: the published parts and blocks, priors from landmarks, which loss reaches which part."""

from collections.abc import Callable
from dataclasses import replace
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import LANDMARK_COLUMNS, LANDMARKS, FaceSet, FaceWriter, open_faces
from charreg.core.params import Params
from charreg.core.resampling import resize_image, up
from charreg.core.tensors import to_images
from charreg.networks.blocks import BatchNorm
from charreg.peers import fsrnet as train_fsrnet
from charreg.peers.base import PeerInputs
from charreg.peers.fsrnet import (
    MIRRORED,
    Bottleneck,
    FSRNet,
    FsrResidualBlock,
    Hourglass,
    Stages,
    TrainFsrnet,
    heat_maps,
    l_prior,
)
from charreg.photos import detection
from conftest import build_peer, count, graph_of, reaches, rouse, state_of, unchanged

Make = Callable[..., Params]
Build = Callable[..., TrainFsrnet]
Points = npt.NDArray[np.float64]
LAYOUT = {"coarse_blocks": 1, "encoder_blocks": 2, "decoder_blocks": 1, "hourglasses": 1, "depth": 1}
TINY = {**LAYOUT, "iterations": 8, "batch": 4, "width": 4, "lr_decay": "none", "ema": 0.0}
MEAN_FACE = np.array([[23, 28], [41, 28], [32, 37], [25, 46], [39, 46]])  # px of 64x64, in the order of LANDMARKS
PARTS = ("coarse", "encoder", "prior", "maps", "decoder")
SHADES = {"eye": 40, "nose": 120, "mouth": 220}


def with_landmarks(faces: FaceSet, points: Points) -> FaceSet:
    """Landmarks [N, 5, 2] (px of the HR face) in the index of a set."""
    columns = dict(zip(LANDMARK_COLUMNS, points.reshape(len(points), -1).T, strict=True))
    return replace(faces, index=faces.index.assign(**columns))


def some_landmarks(count: int, seed: int = 0) -> Points:
    return MEAN_FACE + np.random.default_rng(seed).uniform(-3, 3, (count, 5, 2))


@pytest.fixture(scope="module")
def unmarked_faces(inputs: PeerInputs) -> FaceSet:
    return inputs.hr


@pytest.fixture(scope="module")
def eight_faces(unmarked_faces: FaceSet) -> FaceSet:
    return with_landmarks(unmarked_faces, some_landmarks(8))


@pytest.fixture(scope="module")
def marked_faces(tmp_path_factory: pytest.TempPathFactory) -> FaceSet:
    """8 pictures that show nothing but their landmarks, 2x2 px each: left and right ones in the same shade."""
    folder, draws = tmp_path_factory.mktemp("marked"), np.random.default_rng(3)
    with FaceWriter(folder, 64, lr_size=16) as writer:
        for face in range(8):
            image, row = np.full((64, 64, 3), 128, np.uint8), {}
            for name, (x, y) in zip(LANDMARKS, MEAN_FACE, strict=True):
                x, y = (2 * (int(value) // 2 + draws.integers(-2, 3)) for value in (x, y))
                image[y : y + 2, x : x + 2] = SHADES[name.split("_")[-1]]
                row |= {f"{name}_x": x + 1.0, f"{name}_y": y + 1.0}
            writer.add(image, {"photo": f"{face}.png", **row}, resize_image(image, 16))
    return open_faces(folder)


@pytest.fixture
def build(eight_faces: FaceSet, inputs: PeerInputs) -> Build:
    """A tiny job with changed options, faces or without rousing the layers that start at zero."""

    def build(
        hr: FaceSet = eight_faces,
        genuine: FaceSet = eight_faces,
        roused: bool = True,
        **options: Any,
    ) -> TrainFsrnet:
        given = PeerInputs(hr, genuine, inputs.recogniser)
        job: TrainFsrnet = build_peer(TrainFsrnet, {**TINY, **options}, given)
        if roused:
            rouse(job.network)
        return job

    return build


def parts_reached(loss: Tensor, network: FSRNet) -> set[str]:
    return {part for part in PARTS if reaches(loss, getattr(network, part))}


def blocks_of(network: FSRNet) -> list[list[FsrResidualBlock]]:
    rows = (network.coarse, network.encoder, network.decoder)
    return [[layer for layer in row if isinstance(layer, FsrResidualBlock)] for row in rows]


def some_faces(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# --- the network -----------------------------------------------------------------------------------------


def test_published_sizes_of_the_parts() -> None:
    network = FSRNet()
    assert count(network.coarse) == 225_603
    assert count(network.encoder) == 926_656
    assert count(network.prior, network.maps) == 1_256_709
    assert count(network.decoder) == 400_195


def sharing(network: FSRNet) -> FSRNet:
    """The trap: one block object, repeated."""
    for row in (network.coarse, network.encoder, network.decoder):
        places = [place for place, layer in enumerate(row) if isinstance(layer, FsrResidualBlock)]
        for place in places:
            row[place] = row[places[0]]
    return network


def test_blocks_do_not_share_their_weights(build: Build) -> None:
    """Sharing ones run just as well, with a million parameters less."""
    network = FSRNet()
    assert [len(row) for row in blocks_of(network)] == [3, 12, 3]
    assert len({id(block) for row in blocks_of(network) for block in row}) == 18
    tensors = [parameter.data_ptr() for _, parameter in network.named_parameters(remove_duplicate=False)]
    assert len(set(tensors)) == len(tensors)
    assert count(sharing(FSRNet())) == 2_809_163 - 15 * count(FsrResidualBlock(64)) == 1_699_403

    for change, alike in ((lambda network: network, False), (sharing, True)):
        job = build()
        change(job.network)
        job.step(0)
        first, second = blocks_of(job.network)[1]
        assert torch.equal(first.body[0].weight, second.body[0].weight) is alike


def test_the_prior_network_stacks_two_hourglasses_of_depth_three_at_32x32() -> None:
    network = FSRNet()
    kinds = [type(layer) for layer in network.prior]
    assert kinds == [nn.Conv2d, BatchNorm, nn.ReLU, *[Bottleneck] * 3, *[Hourglass] * 2]
    assert [sum(isinstance(m, Hourglass) for m in glass.modules()) for glass in network.prior[-2:]] == [3, 3]
    head = network.prior[0]
    assert (head.kernel_size, head.stride, head.out_channels) == ((7, 7), (2, 2), 64)
    assert isinstance(network.prior[3].skip, nn.Conv2d)  # 64 to 128
    assert (network.maps.in_channels, network.maps.out_channels, network.maps.kernel_size) == (128, 5, (1, 1))


class OnTheMaps(FSRNet):
    """The trap: a decoder of the K maps in the place of the prior features."""

    def __init__(self, width: int = 64, maps: int = 5, **layout: Any) -> None:
        super().__init__(width=width, maps=maps, **layout)
        self.decoder[0] = nn.Conv2d(width + maps, width, 3, padding=1)

    def stages(self, x: Tensor) -> Stages:
        y_c = self.coarse(up(x))
        maps = self.maps(self.prior(y_c))
        return Stages(y_c, self.decoder(torch.cat([self.encoder(y_c), maps], dim=1)), maps)


def test_the_decoder_takes_the_prior_features_not_the_maps() -> None:
    assert FSRNet().decoder[0].in_channels == 64 + 128
    assert count(OnTheMaps()) == 2_809_163 - 9 * (128 - 5) * 64
    for kind, moves in ((FSRNet, False), (OnTheMaps, True)):
        network, A = kind(width=4, **LAYOUT).eval(), some_faces()
        before = network.stages(A)
        with torch.no_grad():
            network.maps.weight.add_(1)
        after = network.stages(A)
        assert not torch.allclose(before.prior, after.prior)
        assert torch.equal(before.fine, after.fine) is not moves
        assert ("maps" in parts_reached(network.stages(A).fine.square().sum(), network)) is moves


# --- heat maps -------------------------------------------------------------------------------------------


def test_heat_maps_are_gaussians_of_peak_one() -> None:
    """x runs along rows, y down columns; the first pixel's centre is 0.5."""
    maps = heat_maps(torch.tensor([[[10.5, 4.5]]]), 32, sigma=1.5)
    assert maps.shape == (1, 1, 32, 32)
    assert maps[0, 0, 4, 10] == maps.max() == 1
    for row, column in ((4, 12), (7, 10), (5, 9), (31, 0)):
        squared = (row - 4) ** 2 + (column - 10) ** 2
        assert maps[0, 0, row, column].item() == pytest.approx(exp(-squared / (2 * 1.5**2)), abs=1e-6)
    between = heat_maps(torch.tensor([[[11.0, 4.5]]]), 32, sigma=1.0)[0, 0]
    torch.testing.assert_close(between[4, 10], between[4, 11])
    assert between.max().item() == pytest.approx(exp(-1 / 8))


def test_maps_of_unknown_points_are_zero_not_nan() -> None:
    nan = float("nan")
    maps = heat_maps(torch.tensor([[[nan, nan], [nan, 5.0], [5.0, nan], [5.0, 5.0]]]), 32, 1.0)
    assert [bool(each.any()) for each in maps[0]] == [False, False, False, True]
    assert maps.isfinite().all()


def test_mirroring_swaps_what_is_left_and_right() -> None:
    other = {"left": "right", "right": "left"}
    swapped = ["_".join(other.get(word, word) for word in name.split("_")) for name in LANDMARKS]
    assert [LANDMARKS[place] for place in MIRRORED] == swapped


def shown_landmarks(H: Tensor) -> Points:
    """Where a marked face shows its landmarks, [5, 2], px of 32x32: found by shade, the left one first."""
    small, found = to_images(H[None])[0, ::2, ::2, 0], []
    for name in ("eye", "nose", "mouth"):
        rows, columns = np.nonzero(small == SHADES[name])
        found += sorted(zip(columns + 0.5, rows + 0.5, strict=True))
    return np.array(found)


def peaks(maps: Tensor) -> Points:
    """Where maps [K, 32, 32] are brightest, [K, 2]."""
    place = maps.flatten(1).argmax(dim=1).numpy()
    return np.stack([place % 32 + 0.5, place // 32 + 0.5], axis=1)


def recorded_maps(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The true maps that steps will learn from, in the order they come."""
    seen: list[Tensor] = []

    def recorded(prior: Tensor, maps: Tensor, known: Tensor) -> Tensor:
        seen.append(maps)
        return l_prior(prior, maps, known)

    monkeypatch.setattr(train_fsrnet, "l_prior", recorded)
    return seen


def hits(job: TrainFsrnet, monkeypatch: pytest.MonkeyPatch) -> npt.NDArray[np.bool_]:
    """Which true maps of the first batch peak where its faces show their landmarks, [B, K]."""
    seen = recorded_maps(monkeypatch)
    graph_of(job)
    _, H = job.pairs.batch(0)
    shown = np.stack([shown_landmarks(h) for h in H])
    return (np.stack([peaks(maps) for maps in seen[0]]) == shown).all(axis=2)


def test_maps_lie_on_the_faces_of_the_batch(
    build: Build, marked_faces: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on mirrored ones, where maps without the swap have eyes and mouth corners on the wrong side."""
    job = build(hr=marked_faces, batch=8)
    flips = job.pairs.stream.flips(0)
    assert 0 < flips.sum() < 8
    assert hits(job, monkeypatch).all()

    nose = np.array([name == "nose" for name in LANDMARKS])
    with monkeypatch.context() as unswapped:
        unswapped.setattr(train_fsrnet, "MIRRORED", [0, 1, 2, 3, 4])
        assert np.array_equal(hits(job, unswapped), ~flips[:, None] | nose)

    maps = job.landmarks.maps
    job.landmarks.maps = lambda faces, flips: maps(faces, np.zeros_like(flips))  # type: ignore[method-assign]
    assert np.array_equal(hits(job, monkeypatch).all(axis=1), ~flips)  # not mirrored at all


def test_mirrored_maps_are_the_mirror_image_with_the_channels_swapped(build: Build) -> None:
    job, faces = build(), np.arange(8)
    plain, _ = job.landmarks.maps(faces, np.zeros(8, bool))
    mirrored, _ = job.landmarks.maps(faces, np.ones(8, bool))
    torch.testing.assert_close(mirrored, plain.flip(-1)[:, MIRRORED])
    assert not torch.allclose(mirrored, plain.flip(-1), atol=1e-2)


def test_maps_are_one_pixel_wide_at_half_the_resolution_of_the_index(build: Build, marked_faces: FaceSet) -> None:
    maps, known = build(hr=marked_faces).landmarks.maps(np.arange(8), np.zeros(8, bool))
    assert (maps.shape, known.shape) == ((8, 5, 32, 32), (8, 5))
    assert (maps.amax(dim=(2, 3)) == 1).all()
    np.testing.assert_allclose(maps.sum(dim=(2, 3)), 2 * np.pi, rtol=0.02)  # sigma 1


# --- faces whose landmarks are not known -----------------------------------------------------------------


def test_unknown_landmarks_are_masked() -> None:
    """Without the mask their maps would be learnt to be empty."""
    generator = torch.Generator().manual_seed(0)
    prior = torch.randn(2, 5, 32, 32, generator=generator).requires_grad_(True)
    known = torch.tensor([[1.0, 1, 1, 1, 1], [1, 0, 1, 0, 0]])
    maps = torch.rand(2, 5, 32, 32, generator=generator) * known[..., None, None]
    wanted = ((prior - maps).square().mean(dim=(2, 3)) * known).mean()
    torch.testing.assert_close(l_prior(prior, maps, known), wanted)

    for loss, masked in ((l_prior(prior, maps, known), True), (F.mse_loss(prior, maps), False)):
        (gradient,) = torch.autograd.grad(loss, prior)
        assert gradient[known == 1].abs().amax(dim=(1, 2)).min() > 0
        assert (not gradient[known == 0].any()) is masked


def test_faces_with_some_landmarks_unknown_train_on_the_others(build: Build, eight_faces: FaceSet) -> None:
    points = some_landmarks(8)
    points[::2] = np.nan
    points[1, 0, 1] = np.nan  # one left eye
    job = build(hr=with_landmarks(eight_faces, points), batch=8)
    assert job.label == ""
    assert job.landmarks.known.sum() == 19
    maps, known = job.landmarks.maps(np.arange(8), np.array([False, True] * 4))
    assert known[::2].sum() == 0
    assert known[1].tolist() == [1, 0, 1, 1, 1]  # mirrored: what is shown on the right is not known
    assert maps.isfinite().all()
    losses, _ = graph_of(job)
    assert losses["l_prior"].isfinite()
    assert losses["l_prior"] > 0


def test_without_landmarks_there_is_no_prior_and_the_label_says_so(build: Build, unmarked_faces: FaceSet) -> None:
    job = build(hr=unmarked_faces)
    assert job.label == "FSRNet (no prior)"
    head = state_of(job.network.maps)
    others = {part: state_of(getattr(job.network, part)) for part in PARTS if part != "maps"}
    for step in range(2):
        assert job.step(step)["l_prior"] == 0
    assert all(unchanged(head, job.network.maps))
    assert not any(any(unchanged(state, getattr(job.network, part))) for part, state in others.items())
    assert build(prior_weight=0.0).label == "FSRNet (no prior)"
    assert build().label == ""


def test_landmarks_are_those_of_the_hr_faces_never_of_the_lr_input(
    build: Build, unmarked_faces: FaceSet, eight_faces: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the genuine faces' (which have some), nothing found in A, and none at all to super-resolve a face."""

    def never(*_: Any) -> None:
        pytest.fail("a detector was run")

    for name in ("detect_faces", "run_cascade", "load_cascade"):
        monkeypatch.setattr(detection, name, never)
    assert build(hr=unmarked_faces, genuine=eight_faces).label == "FSRNet (no prior)"
    assert build(hr=eight_faces, genuine=unmarked_faces).label == ""

    assert eight_faces.lr is not None
    job = build()
    other = build(hr=replace(eight_faces, lr=255 - eight_faces.lr))
    everyone, flips = np.arange(8), np.array([False, True] * 4)
    assert all(
        torch.equal(a, b)
        for a, b in zip(job.landmarks.maps(everyone, flips), other.landmarks.maps(everyone, flips), strict=True)
    )
    np.testing.assert_allclose(job.landmarks.points * 2, some_landmarks(8), rtol=1e-6)  # px of 64, not of 16
    job.landmarks.maps = never  # type: ignore[assignment,method-assign]
    job.network.eval()
    with torch.no_grad():
        assert job.network(some_faces()).shape == (2, 3, 64, 64)
        job.health(job.networks)
        job.sheet(job.networks)


# --- what a step does ------------------------------------------------------------------------------------


def test_which_loss_reaches_which_part(build: Build) -> None:
    job = build()
    losses, descended = graph_of(job)
    assert {name: parts_reached(loss, job.network) for name, loss in losses.items()} == {
        "l_coarse": {"coarse"},
        "l_prior": {"coarse", "prior", "maps"},
        "l_fine": {"coarse", "encoder", "prior", "decoder"},
    }
    assert [*descended] == ["fsrnet"]
    assert parts_reached(descended["fsrnet"], job.network) == set(PARTS)


def test_a_step_is_the_published_loss(build: Build, make_params: Make) -> None:
    options = make_params().peers["fsrnet"]
    assert (options.fine_weight, options.prior_weight) == (1, 1)  # type: ignore[attr-defined]
    job = build(fine_weight=0.7, prior_weight=0.4)
    losses, totals = graph_of(job, 1)
    (A, H), stream = job.pairs.batch(1), job.pairs.stream
    y_c, S, prior = job.network.stages(A)
    wanted = {
        "l_coarse": (y_c - H).square().mean(),
        "l_fine": (S - H).square().mean(),
        "l_prior": (prior - job.landmarks.maps(stream.indices(1), stream.flips(1))[0]).square().mean(),
    }
    torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-6)
    whole = wanted["l_coarse"] + 0.7 * wanted["l_fine"] + 0.4 * wanted["l_prior"]
    torch.testing.assert_close(totals, {"fsrnet": whole}, rtol=1e-4, atol=1e-6)


def test_an_hourglass_halves_32x32_maps_five_times_at_most(build: Build) -> None:
    build(depth=5)
    with pytest.raises(CharregError, match=r"peers.fsrnet.depth: .*less than or equal to 5"):
        build(depth=6)
