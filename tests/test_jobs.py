"""The five jobs: who is trained by what, on which faces, with which weight and when."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet, FaceWriter, open_faces
from charreg.core.models import Blueprint, save_model
from charreg.core.params import Params
from charreg.core.resampling import ds, resize_image
from charreg.cr.finetune_joint import FinetuneJoint, FirstStage
from charreg.cr.losses import l_cr
from charreg.cr.pretrain_inverse_cr import PretrainInverseCr
from charreg.cr.pretrain_sr import PretrainSr
from charreg.cr.train_centreface import TrainCentreface, split_identities
from charreg.networks.centreface import CentreFace
from charreg.peers.base import PeerInputs
from charreg.peers.csri import TrainCsri
from charreg.peers.sicnn import TrainSicnn
from charreg.training.augment import BRIGHTNESS, SHIFT, Augment
from charreg.training.loop import Training
from conftest import (
    Recorder,
    draw_face,
    draw_genuine_faces,
    draw_hr_faces,
    fresh_first_stage,
    fresh_model,
    graph_of,
    make_job,
    rouse,
    same,
    state_of,
)

CPU = torch.device("cpu")
Make = Callable[..., Params]
Build = Callable[[str, Params], Any]

# Plain discriminators see plain images, and nothing is normalised: what a step does can be written down.
PLAIN = {
    **{f"{job}.d_jitter": False for job in ("pretrain_inverse_cr", "pretrain_cr", "finetune_joint")},
    "discriminator.spectral_norm": False,
    "feature_discriminator.spectral_norm": False,
    "finetune_joint.adv_ramp": 0.0,
    "super_resolver.norm": "none",
    "regulariser.norm": "none",
}


def small_face_sets(folder: Path) -> tuple[FaceSet, FaceSet]:
    return draw_hr_faces(folder / "hr"), draw_genuine_faces(folder / "lr")


@pytest.fixture(scope="module")
def face_sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceSet, FaceSet]:
    return small_face_sets(tmp_path_factory.mktemp("faces"))


@pytest.fixture
def build(face_sets: tuple[FaceSet, FaceSet]) -> Build:
    """A job by its section's name, with roused networks where it starts from others."""
    names = {"train_centreface": "centreface", "pretrain_sr": "sr_module", "pretrain_inverse_cr": "inverse_cr"}
    names |= {"pretrain_cr": "characteristic", "finetune_joint": "cr"}
    return lambda section, params: make_job(names[section], params, *face_sets)


# --- which side is real ----------------------------------------------------------------------------------


def test_the_sides_of_every_discriminator(build: Build, make_params: Make) -> None:
    """D takes artificial faces for real, D_inv genuine ones, Df those of HR; generated ones come detached to be judged,
    attached to fool. With the sides swapped the loss would be another."""
    cr, inverse, joint = (
        build(name, make_params(PLAIN)) for name in ("pretrain_cr", "pretrain_inverse_cr", "finetune_joint")
    )
    rouse(cr.phi_cr), rouse(inverse.phi_inv)
    (A, H), G = cr.pairs.batch(0), cr.genuine.batch(0)
    R, P = joint.phi_cr(G), inverse.phi_inv(A)
    features_H, features_S = joint.phi_fr(H), joint.phi_fr(joint.phi_sr(R))
    sides = [(cr, "d", A, cr.phi_cr(G)), (inverse, "d_inv", G, P), (joint, "d", A, R)]
    for job, name, real, fake in (*sides, (joint, "df", features_H, features_S)):
        judge = getattr(job, name)
        setattr(job, name, Recorder(judge))
        losses, _ = graph_of(job, 0)
        for seen, wanted in zip(getattr(job, name).inputs, (real, fake, fake), strict=True):
            torch.testing.assert_close(seen, wanted)
        assert [x.requires_grad for x in getattr(job, name).inputs] == [False, False, True]
        right, swapped = (
            F.softplus(-judge(a)).mean() + F.softplus(judge(b)).mean() for a, b in ((real, fake), (fake, real))
        )
        torch.testing.assert_close(losses[f"l_{name}"], right)
        assert not torch.allclose(losses[f"l_{name}"], swapped, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(graph_of(cr)[0]["reconstruction"], (A - cr.phi_cr(cr.phi_inv(A))).square().mean())


# --- equation 9 through the job --------------------------------------------------------------------------


def test_a_joint_step_is_equation_9(build: Build, make_params: Make) -> None:
    """Every term written out, from copies of the networks made before the step."""
    job = build("finetune_joint", make_params(PLAIN))
    phi_sr, phi_cr, d, df = (deepcopy(network) for network in (job.phi_sr, job.phi_cr, job.d, job.df))
    (A, H), G = job.pairs.batch(2), job.genuine.batch(2)
    losses = job.step(2)
    with torch.no_grad():
        R, P = phi_cr(G), job.phi_inv(A)
        S = phi_sr(R)
        sr = (phi_sr(A) - H).square().mean()
        cr = (A - phi_cr(P)).square().mean() + 0.2 * F.softplus(-job.d(R)).mean()  # D and Df stepped before
        cr_sr = (ds(S) - R).square().mean()
        cr_gan = F.softplus(-job.df(job.phi_fr(S))).mean()
        wanted = {
            "l_d": F.softplus(-d(A)).mean() + F.softplus(d(R)).mean(),
            "l_df": F.softplus(-df(job.phi_fr(H))).mean() + F.softplus(df(job.phi_fr(S))).mean(),
            "l_sr": sr,
            "l_cr": cr,
            "l_cr_sr": cr_sr,
            "l_cr_gan": cr_gan,
            "joint": sr + 0.06 * cr + 0.01 * cr_sr + 0.03 * cr_gan,
        }
        stale = (A - phi_cr(P)).square().mean() + 0.2 * F.softplus(-d(R)).mean()
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name].detach(), value, rtol=1e-5, atol=1e-6)
    assert not torch.equal(stale, cr)


def test_regulariser_pretraining_starts_from_the_inverse_alone(build: Build, make_params: Make) -> None:
    """phi_cr starts as the identity, so the first reconstruction is mse(A, phi_inv(A))."""
    job = build("pretrain_cr", make_params(PLAIN))
    A = job.pairs.batch(0)[0]
    losses = job.step(0)
    torch.testing.assert_close(losses["reconstruction"], (A - job.phi_inv(A)).square().mean())
    assert losses["reconstruction"] > 1e-4
    assert losses["identity"] == 0


def test_stage_2_continues_d_and_starts_df_anew(build: Build, toy_params: Params) -> None:
    job, first = build("finetune_joint", toy_params), fresh_first_stage(toy_params)
    assert same(state_of(first.characteristic.networks["discriminator"]), job.d)
    assert same(state_of(first.characteristic.networks["regulariser"]), job.phi_cr)
    assert same(state_of(first.sr_module.networks["super_resolver"]), job.phi_sr)
    assert job.d is not first.characteristic.networks["discriminator"]
    assert job.blueprints["feature_discriminator"].arguments["embedding"] == 8


# --- who gets gradients --------------------------------------------------------------------

ZERO = {"lambda_gan": 0.0, "lambda_cr": 0.0, "lambda_cr_sr": 0.0, "lambda_cr_gan": 0.0}


def joint_gradients(build: Build, params: Params) -> tuple[dict[str, Tensor], FinetuneJoint]:
    """Gradients of the generator step by network, flat."""
    job: FinetuneJoint = build("finetune_joint", params)
    total = graph_of(job)[1]["joint"]
    found = {}
    for name, network in (("phi_sr", job.phi_sr), ("phi_cr", job.phi_cr)):
        parameters = list(network.parameters())
        each = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        found[name] = torch.cat([gradient.flatten() for gradient in each])
    return found, job


@pytest.mark.parametrize(
    ("on", "off", "phi_sr", "phi_cr"),
    [
        ({"lambda_cr": 1.0}, {}, False, True),
        ({"lambda_cr": 1.0, "lambda_gan": 1.0}, {"lambda_cr": 1.0}, False, True),
        ({"lambda_cr_sr": 1.0}, {}, True, True),
        ({"lambda_cr_gan": 1.0}, {}, True, True),  # under no_grad phi_sr would get nothing
    ],
    ids=["reconstruction", "characteristic GAN", "eq. 7", "eq. 8"],
)
def test_gradients_of_each_term(
    build: Build, make_params: Make, on: dict[str, float], off: dict[str, float], phi_sr: bool, phi_cr: bool
) -> None:
    with_term, _ = joint_gradients(build, make_params(PLAIN, **{**ZERO, **on}))
    without, _ = joint_gradients(build, make_params(PLAIN, **{**ZERO, **off}))
    for name, gets in (("phi_sr", phi_sr), ("phi_cr", phi_cr)):
        difference = (with_term[name] - without[name]).abs().max().item()
        assert difference > 1e-5 if gets else difference == 0, name


def test_supervised_term_trains_phi_sr_alone(build: Build, make_params: Make) -> None:
    found, _ = joint_gradients(build, make_params(PLAIN, **ZERO))
    assert found["phi_sr"].abs().max() > 1e-4
    assert not found["phi_cr"].any()


def test_the_unsupervised_weight_is_that_of_equation_7(build: Build, make_params: Make) -> None:
    """Through the job, lambda_cr_sr scales the gradient of mse(DS(S), R) and of nothing else."""
    none, job = joint_gradients(build, make_params(PLAIN, **ZERO))
    once, _ = joint_gradients(build, make_params(PLAIN, **{**ZERO, "lambda_cr_sr": 1.0}))
    phi_sr, phi_cr = deepcopy(job.phi_sr), deepcopy(job.phi_cr)
    for network in (phi_sr, phi_cr):
        network.zero_grad()
    R = phi_cr(job.genuine.batch(0))
    (ds(phi_sr(R)) - R).square().mean().backward()
    by_hand = torch.cat([parameter.grad.flatten() for parameter in phi_sr.parameters()])
    torch.testing.assert_close(once["phi_sr"] - none["phi_sr"], by_hand, rtol=1e-3, atol=1e-6)
    other, _ = joint_gradients(build, make_params(PLAIN, **{**ZERO, "lambda_cr_gan": 1.0}))
    assert not torch.allclose(other["phi_sr"] - none["phi_sr"], by_hand, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("name", ["pretrain_cr", "finetune_joint"])
def test_equation_6_does_not_reach_phi_inv(build: Build, make_params: Make, name: str) -> None:
    """With phi_inv neither frozen nor detached, eq. 6 would train it."""
    job = build(name, make_params(PLAIN))
    rouse(job.phi_cr)
    seen = job.phi_cr = Recorder(job.phi_cr)
    job.step(0)
    assert not seen.inputs[0].requires_grad
    wrong = deepcopy(job.phi_inv).requires_grad_(True)
    A = job.pairs.batch(0)[0]
    l_cr(A, job.phi_cr(wrong(A)), torch.zeros(4), 0.2).backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in wrong.parameters())


# --- batch statistics -----------------------------------------------------------------------


def statistics(network: nn.Module) -> Iterator[tuple[Tensor, Tensor, int]]:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            assert layer.num_batches_tracked is not None
            yield layer.running_mean, layer.running_var, int(layer.num_batches_tracked)


def check_statistics(network: nn.Module, start: nn.Module, *domains: Tensor) -> None:
    """`network` took one batch that mixes the domains; one forward each would have left other statistics."""
    mixed, separate = deepcopy(start).train(), deepcopy(start).train()
    with torch.no_grad():
        mixed(torch.cat(domains))
        for domain in domains:
            separate(domain)
    assert list(statistics(network))
    for (mean, var, count), right in zip(statistics(network), statistics(mixed), strict=True):
        torch.testing.assert_close((mean, var), right[:2])
        assert count == right[2]
    difference = [
        (var - wrong[1]).abs().max()
        for (_, var, _), wrong in zip(statistics(network), statistics(separate), strict=True)
    ]
    assert max(difference) > 1e-3


def test_genuine_and_pseudo_genuine_faces_pass_phi_cr_as_one_batch(build: Build, make_params: Make) -> None:
    for name in ("pretrain_cr", "finetune_joint"):
        job = build(name, make_params({**PLAIN, "regulariser.norm": "bn", "super_resolver.norm": "bn"}))
        start = deepcopy(job.phi_cr)
        A, G = job.pairs.batch(0)[0], job.genuine.batch(0)
        job.step(0)
        check_statistics(job.phi_cr, start, G, job.phi_inv(A))


def test_artificial_and_regulated_faces_pass_phi_sr_as_one_batch(build: Build, make_params: Make) -> None:
    job = build("finetune_joint", make_params({**PLAIN, "regulariser.norm": "bn", "super_resolver.norm": "bn"}))
    phi_sr, phi_cr = deepcopy(job.phi_sr), deepcopy(job.phi_cr)
    A, G = job.pairs.batch(0)[0], job.genuine.batch(0)
    job.step(0)
    with torch.no_grad():
        R = phi_cr(torch.cat([G, job.phi_inv(A)])).chunk(2)[0]
    check_statistics(job.phi_sr, phi_sr, A, R)


# --- schedules -------------------------------------------------------------------------------------------


def test_the_feature_term_is_ramped(build: Build, make_params: Make) -> None:
    job = build("finetune_joint", make_params({"finetune_joint.adv_ramp": 0.5, "finetune_joint.iterations": 8}))
    weights = [job.lambda_cr_gan(step) for step in range(8)]
    assert weights == pytest.approx([0, 0.0075, 0.015, 0.0225, 0.03, 0.03, 0.03, 0.03])
    longer = build(
        "finetune_joint", make_params({"finetune_joint.adv_ramp": 0.5, "finetune_joint.iterations": 8}, epoch_scale=2.0)
    )
    assert longer.iterations == 16
    assert longer.lambda_cr_gan(4) == pytest.approx(0.015)
    at_once = build("finetune_joint", make_params({"finetune_joint.adv_ramp": 0.0}))
    assert at_once.lambda_cr_gan(0) == 0.03


def test_df_trains_during_the_ramp(build: Build, make_params: Make) -> None:
    job = build(
        "finetune_joint", make_params({**PLAIN, "finetune_joint.adv_ramp": 0.5}, **{**ZERO, "lambda_cr_gan": 1.0})
    )
    df, phi_cr = state_of(job.df), state_of(job.phi_cr)
    job.step(0)
    assert not same(df, job.df)
    assert same(phi_cr, job.phi_cr)  # the weight of step 0 is 0
    job.step(1)
    assert not same(phi_cr, job.phi_cr)


def test_the_image_gan_has_the_published_form(build: Build, make_params: Make) -> None:
    """And can be switched off."""
    changes = {**PLAIN, "pretrain_sr.adv_warmup": 0.0, "pretrain_sr.adv_weight": 0.001}
    job = build("pretrain_sr", make_params(changes))
    losses, totals = graph_of(job)
    A, H = job.pairs.batch(0)
    S = job.phi_sr(A)
    torch.testing.assert_close(losses["l_d_sr"], F.softplus(-job.d_sr(H)).mean() + F.softplus(job.d_sr(S)).mean())
    torch.testing.assert_close(totals["phi_sr"], (S - H).square().mean() + 0.001 * F.softplus(-job.d_sr(S)).mean())
    off = build("pretrain_sr", make_params({**changes, "pretrain_sr.adv_weight": 0.0}))
    assert [*graph_of(off)[1]] == ["phi_sr"]


def test_centreface_warms_up_and_drops(build: Build, make_params: Make) -> None:
    changes = {"iterations": 280, "warmup": 0.1}
    job = build("train_centreface", make_params({f"train_centreface.{key}": value for key, value in changes.items()}))
    found = [job.rate(step) for step in (0, 13, 27, 28, 159, 160, 239, 240, 279)]
    assert found == pytest.approx([1 / 28, 0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    job = build("train_centreface", make_params({"train_centreface.iterations": 280, "train_centreface.warmup": 0.0}))
    assert [job.rate(step) for step in (0, 1)] == [1.0, 1.0]


# --- stabilisers and switches ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pretrain_cr", "pretrain_inverse_cr", "finetune_joint"])
def test_jitter_reaches_the_discriminator(build: Build, make_params: Make, name: str) -> None:
    judge = {"pretrain_cr": "d", "pretrain_inverse_cr": "d_inv", "finetune_joint": "d"}[name]
    states = []
    for changes in ({}, {f"{name}.d_jitter": True}):
        job = build(name, make_params({**PLAIN, **changes}))
        job.step(0)
        states.append(getattr(job, judge))
    assert not same(state_of(states[0]), states[1])


def test_jitter_is_small_and_each_images_own() -> None:
    blind = Augment(True, 0, "job")
    flat = blind(torch.full((64, 3, 16, 16), 0.5), 0, "A")
    levels = flat[:, 0, 0, 0]
    assert torch.equal(flat, levels[:, None, None, None].expand_as(flat))
    assert (levels - 0.5).abs().max() <= BRIGHTNESS + 1e-6
    assert levels.std() > BRIGHTNESS / 4
    x = torch.zeros(64, 3, 16, 16)
    x[:, :, 8, 8] = 1
    rows = blind(x, 0, "A")[:, 0].flatten(1).argmax(1)
    moves = torch.stack([rows // 16 - 8, rows % 16 - 8])
    assert moves.abs().max() == SHIFT
    assert {tuple(move) for move in moves.T.tolist()} > {(0, 0)}
    assert torch.equal(blind(x, 5, "A"), blind(x, 5, "A"))
    for other in (blind(x, 6, "A"), blind(x, 5, "R"), Augment(True, 1, "job")(x, 5, "A")):
        assert not torch.equal(blind(x, 5, "A"), other)


def test_the_content_term_pulls_pseudo_faces_back(build: Build, make_params: Make) -> None:
    drift = []
    for weight in (0.0, 1000.0):
        changes = {"pretrain_inverse_cr.content_weight": weight, "pretrain_inverse_cr.lr": 1e-2}
        job = build("pretrain_inverse_cr", make_params({**PLAIN, **changes}, lambda_gan=10.0))
        for step in range(10):
            job.step(step)
        A = job.pairs.sample(16)[0]
        with torch.no_grad():
            drift.append((job.phi_inv(A) - A).square().mean().item())
    assert drift[1] < drift[0] / 2


@pytest.mark.parametrize("switch", [{"keep_sr_adv": 0.001}, {"sr_on_pseudo": True}])
def test_joint_switches_change_the_step(build: Build, make_params: Make, switch: dict[str, Any]) -> None:
    jobs = []
    for changes in ({}, {f"finetune_joint.{key}": value for key, value in switch.items()}):
        job = build("finetune_joint", make_params({**PLAIN, **changes}))
        judge = state_of(job.d_sr) if "keep_sr_adv" in switch and changes else None
        job.step(0)
        jobs.append(job)
        assert judge is None or not same(judge, job.d_sr)
    assert not same(state_of(jobs[0].phi_sr), jobs[1].phi_sr)
    assert same(state_of(jobs[0].d), jobs[1].d)


# --- face sets -----------------------------------------------------------------------------


def test_empty_sets_are_refused(tmp_path: Path, toy_params: Params) -> None:
    hr, genuine = draw_hr_faces(tmp_path / "hr", people=0), draw_genuine_faces(tmp_path / "lr", people=0)
    good_hr, _ = small_face_sets(tmp_path / "good")
    for make in (
        lambda: PretrainSr(toy_params, hr, CPU),
        lambda: PretrainSr(toy_params, genuine, CPU),  # no HR set at all
        lambda: PretrainInverseCr(toy_params, good_hr, genuine, CPU),
        lambda: TrainCentreface("centreface", toy_params, hr, CPU),
    ):
        with pytest.raises(CharregError, match="wanted at least") as caught:
            make()
        assert str(tmp_path) in str(caught.value)


# --- the recogniser --------------------------------------------------------------------------------------


def test_identities_are_split_into_known_and_held_out(face_sets: tuple[FaceSet, FaceSet]) -> None:
    hr, _ = face_sets
    known, held = split_identities(hr, 2, seed=0)
    assert (len(known), len(held)) == (2, 2)
    assert sorted(known + held) == [f"person{person:02}" for person in range(4)]
    assert split_identities(hr, 2, seed=0) == (known, held)
    with pytest.raises(CharregError, match=r"4 identities, wanted at least 5 .*; put every person.*or lower"):
        split_identities(hr, 3, seed=0)
    assert split_identities(hr, 2, seed=0, least=4) == (known, held)
    with pytest.raises(CharregError, match="0 identities with 5 portraits, wanted at least 2 "):
        split_identities(hr, 0, seed=0, least=5)


def test_no_recogniser_learns_people_with_few_portraits(tmp_path: Path, make_params: Make) -> None:
    """CentreFace's classes, SICNN's and CSRI's are the people with enough of them; others stay unknown."""
    (tmp_path / "hr").mkdir()
    with FaceWriter(tmp_path / "hr", 64, lr_size=16) as writer:
        for person, photos in enumerate((1, 2, 3, 3)):
            for photo in range(photos):
                image = draw_face(person, photo)
                row = {"source": "drawn", "photo": f"{person}-{photo}", "identity": f"person{person}"}
                writer.add(image, row, resize_image(image, 16))
    params = make_params({"min_portraits": 3, "train_centreface.holdout_ids": 0})
    hr, genuine = open_faces(tmp_path / "hr"), draw_genuine_faces(tmp_path / "lr")
    recogniser = fresh_first_stage(params).centreface.networks["centreface"]
    assert isinstance(recogniser, CentreFace)
    inputs = PeerInputs(hr, genuine, recogniser)
    centreface = TrainCentreface("centreface", params, hr, CPU)
    assert sorted(centreface.rows.tolist()) == [3, 4, 5, 6, 7, 8]
    assert centreface.head.classifier.out_features == 2
    assert TrainSicnn(params, inputs, CPU).labels.tolist() == [-1] * 3 + [0] * 3 + [1] * 3
    assert TrainCsri(params, inputs, CPU).synthetic.labels.tolist() == [-1] * 3 + [0] * 3 + [1] * 3


def test_the_recogniser_sees_noise_of_another_strength_on_every_face_and_step(
    face_sets: tuple[FaceSet, FaceSet], make_params: Make
) -> None:
    hr, _ = face_sets
    clean, noisy = (
        TrainCentreface("centreface", make_params({"train_centreface.noise": noise}), hr, CPU) for noise in (0.0, 0.25)
    )
    added = [noisy.batch(step)[0] - clean.batch(step)[0] for step in (0, 0, 1)]
    assert torch.equal(added[0], added[1])
    assert not torch.equal(added[0], added[2])
    strengths = torch.cat(added[1:]).std(dim=(1, 2, 3))
    assert 0 < strengths.max() < 0.27
    assert len(strengths.unique()) == len(strengths)


def test_held_out_people_are_not_trained_on(face_sets: tuple[FaceSet, FaceSet], make_params: Make) -> None:
    hr, _ = face_sets
    job = TrainCentreface("centreface", make_params({"train_centreface.holdout_ids": 2}), hr, CPU)
    trained = {hr.identities[row] for row in job.rows}
    assert trained.isdisjoint(job.held_out)
    assert set(job.labels.tolist()) == {0, 1}
    assert job.head.classifier.out_features == len(job.head.centres) == 2
    gate = job.gate_faces(hr)
    assert set(gate.identities) == set(job.held_out)
    assert len(gate) == len(gate.index) == 8
    for row, label in zip(job.rows, job.labels, strict=True):
        assert sorted(trained)[label] == hr.identities[row]


def test_recognition_step_is_equation_5_of_wen(build: Build, make_params: Make) -> None:
    job = build("train_centreface", make_params({"train_centreface.shift": 0.0}))
    job.head.centres.normal_(generator=torch.Generator().manual_seed(0))
    phi_fr, head = deepcopy(job.phi_fr), deepcopy(job.head)
    x, y = job.batch(1)
    with torch.no_grad():
        f = phi_fr(x)
        centre_term = sum(((f[i] - head.centres[y[i]]) ** 2).sum() for i in range(4)) * 0.003 / (2 * 4)
        wanted = -F.log_softmax(head.classifier(f), dim=1)[range(4), y].mean() + centre_term
        centres = head.centres.clone()
        for label in set(y.tolist()):
            members = f[y == label]
            centres[label] -= 0.5 * (head.centres[label] - members).sum(dim=0) / (1 + len(members))
    loss = job.step(1)["l_recognition"]
    torch.testing.assert_close(loss.detach(), wanted)
    torch.testing.assert_close(job.head.centres, centres)
    assert not job.head.centres.requires_grad


def test_shifts_are_small_and_functions_of_the_step(build: Build, make_params: Make) -> None:
    job = build("train_centreface", make_params({"train_centreface.shift": 3.0, "train_centreface.batch": 16}))
    x = torch.zeros(16, 3, 64, 64)
    x[:, :, 30, 30] = 1
    moved = job._shifted(x, 0)
    places = moved[:, 0].flatten(1).argmax(1)
    moves = torch.stack([places // 64 - 30, places % 64 - 30])
    assert 1 <= moves.abs().max() <= 3
    assert torch.equal(moved, job._shifted(x, 0))
    assert not torch.equal(moved, job._shifted(x, 1))


def test_features_of_equation_8_do_not_depend_on_the_batch(build: Build, make_params: Make) -> None:
    """In train mode they would; phi_fr stays in evaluation mode even after the loop looked at health."""
    params = make_params({"centreface.batch_norm": True})
    job = build("finetune_joint", params)
    training = Training(job)
    training.advance()
    training.done = job.iterations
    training.look()
    x = job.pairs.sample(4)[1]
    with torch.no_grad():
        torch.testing.assert_close(job.phi_fr(x)[:1], job.phi_fr(x[:1]))
        wrong = deepcopy(job.phi_fr).train()
        assert not torch.allclose(wrong(x)[:1], job.phi_fr(x[:1]), rtol=1e-2)


def test_another_network_under_the_recognisers_name_is_refused(
    make_params: Make, face_sets: tuple[FaceSet, FaceSet]
) -> None:
    params = make_params()
    first = fresh_first_stage(params)
    wrong = fresh_model({"centreface": first.sr_module.blueprints["super_resolver"]})
    with pytest.raises(CharregError, match="centreface: found a network SuperResolver, wanted CentreFace; give the"):
        FinetuneJoint(params, *face_sets, replace(first, centreface=wrong), CPU)


@pytest.mark.parametrize(
    ("model", "network", "image_gan"),
    [
        ("sr_module", "super_resolver", False),
        ("sr_module", "image_discriminator", True),
        ("characteristic", "regulariser", False),
        ("characteristic", "discriminator", False),
        ("inverse_cr", "inverse_regulariser", False),
        ("centreface", "centreface", False),
    ],
)
def test_a_folder_without_a_network_of_stage_2_is_named(
    tmp_path: Path, toy_params: Params, model: str, network: str, image_gan: bool
) -> None:
    for name, trained in vars(fresh_first_stage(toy_params)).items():
        kept = {key: value for key, value in trained.networks.items() if (name, key) != (model, network)}
        (tmp_path / name).mkdir()
        save_model(tmp_path / name, kept, trained.blueprints, trained.info)
    with pytest.raises(CharregError, match=rf"{model}: found networks .*, wanted {network}$"):
        FirstStage.load(tmp_path, FinetuneJoint.uses, 0, image_gan)
    if network == "image_discriminator":
        assert FirstStage.load(tmp_path, FinetuneJoint.uses, 0, image_gan=False).sr_module.networks


def test_df_needs_the_recognisers_embedding(make_params: Make, face_sets: tuple[FaceSet, FaceSet]) -> None:
    """The embedding's width comes from the model, not from params that stage 2 does not read."""
    params = make_params()
    blueprint = Blueprint.of(CentreFace, {"width": 0.0625, "embedding": 5, "batch_norm": False})
    first = fresh_first_stage(params)
    first = type(first)(**{**vars(first), "centreface": fresh_model({"centreface": blueprint})})
    job = FinetuneJoint(params, *face_sets, first, CPU)
    assert job.step(0)["l_df"] > 0
