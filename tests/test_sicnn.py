"""SICNN: the published networks, A-Softmax, the identity loss and its scale, and who trains on what in which phase."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.faces import FaceSet
from charreg.core.params import Params
from charreg.core.tensors import to_tensor
from charreg.peers.base import PeerInputs
from charreg.peers.sicnn import (
    AngularClassifier,
    CnnH,
    CnnR,
    ResidualPair,
    TrainSicnn,
    l_a_softmax,
    l_super_identity,
    psi,
)
from charreg.training.loop import Training
from conftest import build_peer, graph_of, state_of, unchanged

Make = Callable[..., Params]
Build = Callable[..., TrainSicnn]
TINY = {
    "iterations": 8,
    "batch": 4,
    "width": 0.0625,
    "recogniser_width": 0.03125,
    "recogniser_layers": 20,
    "embedding": 8,
    "pretrain_share": 0.5,
    "lr_decay": "none",
    "ema": 0.0,
}
APART, JOINT = 3, 4  # the last step of TINY that trains the networks apart, the first that trains them together
LOSSES = ["l_sr", "l_si", "l_r_hr", "l_r_sr"]


@pytest.fixture
def build(inputs: PeerInputs) -> Build:
    """A tiny job with changed options or faces."""

    def build(hr: FaceSet = inputs.hr, **options: Any) -> TrainSicnn:
        job: TrainSicnn = build_peer(TrainSicnn, {**TINY, **options}, replace(inputs, hr=hr))
        return job

    return build


def with_identities(faces: FaceSet, names: list[str]) -> FaceSet:
    return replace(faces, index=faces.index.assign(identity=names))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def some_faces(size: int = 16) -> Tensor:
    return drawn(2, 3, size, size).clamp(-1, 1)


def unit(features: Tensor) -> Tensor:
    return features / features.norm(dim=1, keepdim=True)


# --- the networks ----------------------------------------------------------------------------------------


def test_cnn_h_has_the_published_layout() -> None:
    """Two doublings, where the original has three for x8."""
    network = CnnH()
    for block, before in ((network.dense1, 3), (network.dense2, 256)):
        convolutions = [block.first[0], *(layer[0] for layer in block.layers)]
        assert [layer.in_channels for layer in convolutions] == [before, 64, 96, 128, 160, 192, 224]
        assert [layer.out_channels for layer in convolutions] == [64, *[32] * 6]
        assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    last = [network.dense3.first[0], *(layer[0] for layer in network.dense3.layers), network.tail]
    assert [(layer.in_channels, layer.out_channels) for layer in last] == [(256, 64), (64, 32), (96, 32), (128, 3)]
    assert network.tail.kernel_size == (5, 5)
    doublings = [layer for layer in network.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [(layer.kernel_size, layer.stride, layer.out_channels) for layer in doublings] == [
        ((3, 3), (2, 2), 256),
        ((5, 5), (2, 2), 256),
    ]
    slopes = [layer.weight.tolist() for layer in network.modules() if isinstance(layer, nn.PReLU)]
    assert slopes == [[0.25]] * 14
    kept = [layer.negative_slope for layer in network.modules() if isinstance(layer, nn.LeakyReLU)]
    assert kept == [0.25] * 5
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


@pytest.mark.parametrize(("layers", "pairs"), [(36, (2, 4, 8, 2)), (20, (1, 2, 4, 1))])
def test_cnn_r_has_the_published_layout(layers: Any, pairs: tuple[int, ...]) -> None:
    """A stride-2 convolution before each row of residual pairs; no batch norm, slopes per channel."""
    network = CnnR(0.0625, layers, embedding=8)
    kinds = [kind for many in pairs for kind in (nn.Conv2d, nn.PReLU, *[ResidualPair] * many)]
    assert [type(layer) for layer in network.features] == kinds
    halvings = [layer for layer in network.features if isinstance(layer, nn.Conv2d)]
    assert [(layer.out_channels, layer.stride) for layer in halvings] == [(c, (2, 2)) for c in (4, 8, 16, 32)]
    assert sum(isinstance(layer, nn.Conv2d) for layer in network.modules()) == layers
    assert {layer.num_parameters for layer in network.modules() if isinstance(layer, nn.PReLU)} == {4, 8, 16, 32}
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    H = some_faces(64)
    assert network.features(H).shape == (2, 32, 4, 4)
    torch.testing.assert_close(network(H), network.linear(network.features(H).flatten(1)))
    assert network(H).shape == (2, 8)


# --- A-Softmax -------------------------------------------------------------------------------------------


def test_psi_falls_from_one_to_minus_seven() -> None:
    """m = 4; cos(4 theta) alone, the trap, rises again after 45 degrees and has large angles pass for small ones."""
    theta = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    k = (theta / (math.pi / 4)).floor().clamp(max=3)
    wanted = (-1) ** k * torch.cos(4 * theta) - 2 * k
    torch.testing.assert_close(psi(theta.cos()), wanted, rtol=0, atol=1e-6)
    ends = psi(torch.tensor([1.0, 0.5**0.5, 0.0, -(0.5**0.5), -1.0]))
    torch.testing.assert_close(ends, torch.tensor([1.0, -1, -3, -5, -7]), rtol=0, atol=1e-5)
    for curve, monotone in ((psi(theta.cos()), True), (torch.cos(4 * theta), False)):
        assert bool((curve.diff() <= 1e-9).all()) is monotone
    assert (psi(theta.cos()) <= theta.cos() + 1e-9).all()  # a margin: the own class is never made easier
    assert psi(theta.cos()).diff().abs().max() < 0.02  # and no steps between the pieces


def test_psi_pulls_towards_the_class_at_every_angle() -> None:
    theta = torch.linspace(0.01, math.pi - 0.01, 500, dtype=torch.float64)
    cosine = theta.cos().requires_grad_(True)
    (gradient,) = torch.autograd.grad(psi(cosine).sum(), cosine)
    assert gradient.min() > -1e-9
    assert (gradient > 0.1).float().mean() > 0.95
    (trap,) = torch.autograd.grad((8 * cosine**4 - 8 * cosine**2 + 1).sum(), cosine)
    assert (trap < -0.1).any()


def test_logits_are_those_of_the_published_loss() -> None:
    """|f| cos(theta_j), and for the own class a blend of cosine and psi that lambda weighs; no bias."""
    classifier, features, labels = AngularClassifier(8, 5), drawn(6, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    assert [name for name, _ in classifier.named_parameters()] == ["directions"]
    with torch.no_grad():
        classifier.directions.mul_(torch.arange(1.0, 6)[:, None])  # lengths of directions mean nothing
    cosines = unit(features) @ unit(classifier.directions).T
    torch.testing.assert_close(classifier.cosines(features), cosines)
    theta = cosines[range(6), labels].double().acos()
    k = (theta / (math.pi / 4)).floor()
    margin = ((-1) ** k * torch.cos(4 * theta) - 2 * k).float()
    for annealing in (0.0, 5.0, 1500.0):
        logits = cosines.clone()
        logits[range(6), labels] = (annealing * theta.cos().float() + margin) / (1 + annealing)
        logits = logits * features.norm(dim=1, keepdim=True)
        torch.testing.assert_close(classifier(features, labels, annealing), logits, rtol=1e-4, atol=1e-5)


def test_lambda_falls_from_1500_to_5(build: Build) -> None:
    """The margin is nearly off at first; t counts from 1 as in SphereFace's release."""
    job = build()
    values = [job.annealing(step) for step in range(4000)]
    assert values[0] == pytest.approx(1500 / 1.1)
    assert values[9] == pytest.approx(1500 / 2)
    assert all(a >= b for a, b in pairwise(values))
    assert values[2989] == pytest.approx(5)
    assert min(values) == values[-1] == 5
    assert values[2900] > 5


# --- the identity loss -----------------------------------------------------------------------------------


def test_the_identity_loss_is_summed_over_dimensions() -> None:
    """The trap is the mean over the 512 of them, which makes alpha 512 times too small."""
    features_S, features_H = drawn(6, 512, seed=1).requires_grad_(True), drawn(6, 512, seed=2)
    weights = torch.full((6,), 1 / 6)
    found = l_super_identity(features_S, features_H, weights)
    squares = (unit(features_S) - unit(features_H)).square()
    torch.testing.assert_close(found, squares.sum(dim=1).mean())
    torch.testing.assert_close(found, 2 - 2 * F.cosine_similarity(features_S, features_H).mean())
    mean = F.mse_loss(unit(features_S), unit(features_H))
    torch.testing.assert_close(found, 512 * mean)
    assert mean < 0.01 * found
    (pull,), (trap,) = (torch.autograd.grad(loss, features_S, retain_graph=True) for loss in (found, mean))
    torch.testing.assert_close(pull, 512 * trap, rtol=1e-4, atol=1e-7)


def test_lengths_of_embeddings_mean_nothing() -> None:
    a, b, weights = drawn(4, 8, seed=1), drawn(4, 8, seed=2), torch.full((4,), 0.25)
    scale = torch.tensor([[0.1], [1.0], [5.0], [20.0]])
    torch.testing.assert_close(l_super_identity(a * scale, b, weights), l_super_identity(a, b / scale, weights))
    assert l_super_identity(a, a * scale, weights).item() == pytest.approx(0, abs=1e-6)
    opposite = l_super_identity(a, -a, weights)
    assert opposite.item() == pytest.approx(4)


def test_the_hr_face_is_the_target() -> None:
    """No gradient to its side, where the trap would move it too."""
    features_S, features_H = drawn(4, 8, seed=1).requires_grad_(True), drawn(4, 8, seed=2).requires_grad_(True)
    l_super_identity(features_S, features_H, torch.full((4,), 0.25)).backward()
    assert features_S.grad is not None
    assert features_S.grad.any()
    assert features_H.grad is None
    trap = (unit(features_S) - unit(features_H)).square().sum(dim=1).mean()
    trap.backward()
    assert features_H.grad is not None
    assert features_H.grad.any()


# --- who trains on what ----------------------------------------------------------------------------------


def test_a_joint_step_is_the_published_losses(build: Build, make_params: Make) -> None:
    assert make_params().peers["sicnn"].alpha == 8  # type: ignore[attr-defined]
    job = build(alpha=8.0)
    losses, totals = graph_of(job, JOINT)
    (A, H), (labels, _), annealing = job.pairs.batch(JOINT), job.identities(JOINT), job.annealing(JOINT)
    S = job.cnn_h(A)
    of_S, of_H = job.cnn_r(S), job.cnn_r(H)
    wanted = {
        "l_sr": (S - H).square().mean(),
        "l_si": (unit(of_S) - unit(of_H)).square().sum(dim=1).mean(),
        "l_r_hr": F.cross_entropy(job.classifier(of_H, labels, annealing), labels),
        "l_r_sr": F.cross_entropy(job.classifier(of_S, labels, annealing), labels),
    }
    torch.testing.assert_close(losses, wanted, rtol=1e-4, atol=1e-6)
    both = {"cnn_r": wanted["l_r_hr"] + wanted["l_r_sr"], "cnn_h": wanted["l_sr"] + 8 * wanted["l_si"]}
    torch.testing.assert_close(totals, both, rtol=1e-4, atol=1e-6)


# --- identities ------------------------------------------------------------------------------------------


def test_labels_are_those_of_the_faces(build: Build, eight_faces: FaceSet) -> None:
    names = ["Cal", "Ann", "Bea", "Ann", "Bea", "Cal", "Ann", "Bea"]
    job, faces = build(hr=with_identities(eight_faces, names)), to_tensor(eight_faces.images)
    assert job.classifier.directions.shape == (3, 8)
    for step in range(8):
        _, H = job.pairs.batch(step)
        labels, weights = job.identities(step)
        found = [[bool((face == h).all() or (face.flip(-1) == h).all()) for face in faces].index(True) for h in H]
        assert [names[face] for face in found] == [sorted(set(names))[label] for label in labels]
        assert weights.tolist() == [0.25] * 4


def test_faces_without_a_name_train_no_classifier(build: Build, eight_faces: FaceSet) -> None:
    """The others share the whole weight of A-Softmax; L_SI asks for no name and is the mean over all faces."""
    names = [name if face % 2 else "" for face, name in enumerate(eight_faces.identities)]
    job = build(hr=with_identities(eight_faces, names), batch=8)
    assert (job.label, job.classifier.directions.shape) == ("", (2, 8))
    A, H = job.pairs.batch(JOINT)
    known = torch.from_numpy(job.labels[job.pairs.stream.indices(JOINT)] >= 0)
    labels, weights = job.identities(JOINT)
    torch.testing.assert_close(weights, known / 4)
    losses, _ = graph_of(job, JOINT)
    logits = job.classifier(job.cnn_r(H[known]), labels[known], job.annealing(JOINT))
    torch.testing.assert_close(losses["l_r_hr"], F.cross_entropy(logits, labels[known]))
    S = job.cnn_h(A)
    features_S, features_H = job.cnn_r(S), job.cnn_r(H)
    torch.testing.assert_close(losses["l_si"], l_super_identity(features_S, features_H, torch.full((8,), 0.125)))
    torch.testing.assert_close(losses["l_sr"], (S - H).square().mean())

    nobody = l_a_softmax(drawn(4, 2), torch.zeros(4, dtype=torch.int64), torch.zeros(4))
    assert nobody == 0


@pytest.mark.parametrize("names", [[""] * 8, ["Ann"] * 8, ["Ann", *[""] * 7]])
def test_without_identities_cnn_h_trains_alone_and_the_label_says_so(
    build: Build, eight_faces: FaceSet, names: list[str]
) -> None:
    """One person can be mistaken for nobody."""
    job = build(hr=with_identities(eight_faces, names))
    assert job.label == "SICNN (no identities)"
    assert ([*job.networks], [*job.optimisers]) == (["super_resolver"], ["cnn_h"])
    for step in (APART, JOINT):
        before = state_of(job.cnn_h)
        losses = job.step(step)
        assert list(losses) == LOSSES
        assert [losses[name] > 0 for name in LOSSES] == [True, False, False, False]
        assert not all(unchanged(before, job.cnn_h))
        assert job.rate(step) == 1
    with torch.no_grad():
        assert set(job.health(job.networks)) == {"psnr_train", "psnr_bicubic"}
    assert build().label == ""


# --- optimisers and rates --------------------------------------------------------------------------------


def test_rates_of_the_domain_integrated_phase(build: Build) -> None:
    """CNN_H goes on at a tenth of its rate, CNN_R at a rate of its own."""
    rates = {"lr": 2e-3, "recogniser_lr": 0.1}
    job = build(iterations=100, pretrain_share=0.6, **rates)
    assert {job.rate_of("cnn_h", step) for step in range(60)} == {2e-3}
    assert {job.rate_of("cnn_r", step) for step in range(60)} == {0.1}
    assert {job.rate_of("cnn_h", step) for step in range(60, 100)} == {2e-3 * 0.1}
    assert {job.rate_of("cnn_r", step) for step in range(60, 100)} == {1e-3}
    cosine = build(iterations=100, pretrain_share=0.6, lr_decay="cosine", **rates)
    assert [cosine.rate_of("cnn_r", step) for step in (59, 60, 70)] == pytest.approx([0.1, 1e-3, 1e-3])
    assert cosine.rate_of("cnn_h", 99) == pytest.approx(2e-5, rel=0.05)
    assert cosine.rate_of("cnn_r", 99) == pytest.approx(1e-4, rel=0.05)
    shares = {"milestones": [0.5, 0.9], "joint_milestones": [0.3, 0.5, 0.75]}  # of 60 and of 40 steps
    falling = build(iterations=100, pretrain_share=0.6, **rates, **shares)
    found = {step: falling.rate_of("cnn_r", step) for step in (29, 30, 53, 54, 59, 60, 71, 72, 80, 90, 99)}
    wanted = [0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-3, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6]
    assert list(found.values()) == pytest.approx(wanted)
    assert {falling.rate_of("cnn_h", step) for step in range(60)} == {2e-3}
    training = Training(build(**rates))
    training.done = JOINT
    training.advance()
    used = {name: optimiser.param_groups[0]["lr"] for name, optimiser in training.job.optimisers.items()}
    assert used == pytest.approx({"cnn_h": 2e-4, "cnn_r": 1e-3})
