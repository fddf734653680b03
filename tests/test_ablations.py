"""The ablations of stage 2: what each row of Tables 4, 6 and 7 trains, and what it does not."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import FaceSet, open_faces
from charreg.core.methods import load_method, resolve_faces
from charreg.core.models import load_model, save_model
from charreg.core.params import JOINT_VARIANTS, Params
from charreg.core.resampling import ds
from charreg.core.tensors import to_tensor
from charreg.cr.finetune_joint import VARIANTS, FinetuneJoint, FirstStage
from charreg.training.loop import Training
from conftest import advanced, draw_genuine_faces, draw_hr_faces, fresh_first_stage, make_job, same, state_of
from training_fixtures import Workshop

pytest_plugins = ["training_fixtures"]

CPU = torch.device("cpu")
Make = Callable[..., Params]
Build = Callable[..., FinetuneJoint]

NETWORKS = {
    "cr": ["super_resolver", "regulariser", "discriminator", "feature_discriminator"],
    "wo_cr": ["super_resolver", "feature_discriminator"],
    "wo_ul": ["super_resolver", "regulariser", "discriminator", "feature_discriminator"],
    "wo_sr_ri_joint": ["super_resolver", "regulariser", "discriminator"],
}
EXPORTS = {name: tuple(key for key in keys if "discriminator" not in key) for name, keys in NETWORKS.items()}

# Plain discriminators see plain images, nothing is normalised or clipped: what a step does can be written down.
PLAIN = {
    "finetune_joint.d_jitter": False,
    "finetune_joint.adv_ramp": 0.0,
    "finetune_joint.clip_norm": 0.0,
    "discriminator.spectral_norm": False,
    "feature_discriminator.spectral_norm": False,
    "super_resolver.norm": "none",
    "regulariser.norm": "none",
}
# What stage 2 can be asked for beyond the paper.
SWITCHED_ON = {
    "finetune_joint.sr_on_pseudo": True,
    "finetune_joint.pseudo_noise": 0.06,
    "finetune_joint.keep_sr_adv": 0.1,
    "finetune_joint.d_jitter": True,
    "finetune_joint.adv_ramp": 0.5,
    "finetune_joint.iterations": 4,
    "super_resolver.norm": "bn",
    "regulariser.norm": "bn",
}


@pytest.fixture(scope="module")
def face_sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceSet, FaceSet]:
    folder = tmp_path_factory.mktemp("faces")
    return draw_hr_faces(folder / "hr"), draw_genuine_faces(folder / "lr")


@pytest.fixture
def build(face_sets: tuple[FaceSet, FaceSet]) -> Build:
    """A variant from roused first-stage networks; a model it does not use is not there to be used."""

    def build(variant: str, params: Params, genuine: FaceSet | None = None) -> FinetuneJoint:
        hr, lr = face_sets
        job: FinetuneJoint = make_job(variant, params, hr, genuine or lr)
        return job

    return build


def gradients(network: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def identical(one: Training, other: Training) -> bool:
    """All networks, averages and optimisers, to the bit."""
    mine, others = one.tensors(), other.tensors()
    return list(mine) == list(others) and all(torch.equal(value, others[key]) for key, value in mine.items())


# --- which networks there are, and which of them train ---------------------------------------------------


@pytest.mark.parametrize("variant", JOINT_VARIANTS)
def test_networks_of_each_variant(build: Build, make_params: Make, variant: str) -> None:
    params = make_params(PLAIN)
    job = build(variant, params)
    assert list(job.networks) == NETWORKS[variant]
    assert job.exports == job.averaged == EXPORTS[variant]
    assert job.name == variant
    assert hasattr(job, "phi_cr") == hasattr(job, "d") == (variant != "wo_cr")
    assert same(state_of(fresh_first_stage(params).sr_module.networks["super_resolver"]), job.phi_sr)
    with_image_gan = build(variant, make_params({**PLAIN, "finetune_joint.keep_sr_adv": 0.1}))
    assert list(with_image_gan.networks) == [*NETWORKS[variant], "image_discriminator"]


def test_parameters_that_cannot_change_a_variant(build: Build, make_params: Make) -> None:
    """What a variant calls idle changes no weight of it, and the rest of eq. 9 does."""
    at_once = {**SWITCHED_ON, "finetune_joint.adv_ramp": 0.0}
    weights = {"lambda_gan": 5.0, "lambda_cr": 5.0, "lambda_cr_sr": 5.0, "lambda_cr_gan": 5.0}
    assert [sorted(VARIANTS[name].idle) for name in ("cr", "wo_cr", "wo_ul", "wo_sr_ri_joint")] == [
        [],
        ["lambda_cr", "lambda_gan"],
        ["lambda_cr_sr"],
        ["feature_discriminator", "lambda_cr_gan", "lambda_cr_sr"],
    ]
    for variant in ("wo_cr", "wo_ul", "wo_sr_ri_joint"):
        usual = advanced(build(variant, make_params(at_once)), 1)
        for name, value in weights.items():
            other = advanced(build(variant, make_params(at_once, **{name: value})), 1)
            same = identical(usual, other) and usual.curves == other.curves
            assert same == (name in VARIANTS[variant].idle), (variant, name)


# --- Table 7: without the unsupervised SR loss -----------------------------------------------------------


def test_wo_ul_is_cr_without_the_weight_of_equation_7(build: Build, make_params: Make) -> None:
    """Bit for bit, with every switch on: also the noise and the start of Df are the same."""
    without = advanced(build("wo_ul", make_params(SWITCHED_ON, lambda_cr_sr=0.01)))
    by_weight = advanced(build("cr", make_params(SWITCHED_ON, lambda_cr_sr=0.0)))
    full = advanced(build("cr", make_params(SWITCHED_ON, lambda_cr_sr=0.01)))
    assert identical(without, by_weight)
    assert without.curves == by_weight.curves
    assert all(row["l_cr_sr"] > 0 for row in without.curves)  # measured all the same
    assert not identical(without, full)


def test_wo_ul_drops_equation_7_and_keeps_equation_8(build: Build, make_params: Make) -> None:
    """The "unsupervised SR loss" of Table 7 is mse(DS(S), R), not the feature GAN."""
    weights = {"lambda_gan": 0.0, "lambda_cr": 0.0, "lambda_cr_sr": 1.0, "lambda_cr_gan": 1.0}
    job = build("wo_ul", make_params(PLAIN, **weights))
    phi_sr, phi_cr = deepcopy(job.phi_sr), deepcopy(job.phi_cr)
    (A, H), G = job.pairs.batch(0), job.genuine.batch(0)
    losses = job.step(0)
    R = phi_cr(G)
    S = phi_sr(R)
    fool = F.softplus(-job.df(job.phi_fr(S))).mean()  # Df stepped before
    unsupervised = (ds(S) - R).square().mean()
    supervised = (phi_sr(A) - H).square().mean()
    torch.testing.assert_close(losses["l_cr_sr"], unsupervised)
    torch.testing.assert_close(losses["joint"], supervised + fool)
    assert not torch.allclose(losses["joint"], supervised + unsupervised, rtol=1e-2)
    wrong = torch.autograd.grad(supervised + unsupervised, [*phi_sr.parameters()], retain_graph=True)
    (supervised + fool).backward()
    torch.testing.assert_close(gradients(job.phi_sr), gradients(phi_sr), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients(job.phi_cr), gradients(phi_cr), rtol=1e-4, atol=1e-6)
    assert gradients(job.phi_cr).abs().max() > 1e-4
    assert not torch.allclose(gradients(job.phi_sr), torch.cat([g.flatten() for g in wrong]), rtol=1e-2, atol=1e-5)


# --- Table 4: without characteristic regularisation ------------------------------------------------------


def test_a_step_of_wo_cr_is_the_loss_of_table_4(build: Build, make_params: Make) -> None:
    """L_sr + 0.01 mse(DS(phi_sr(G)), G) + 0.03 E[sp(-Df(phi_fr(phi_sr(G))))], and no other gradient."""
    job = build("wo_cr", make_params(PLAIN))
    phi_sr, df = deepcopy(job.phi_sr), deepcopy(job.df)
    (A, H), G = job.pairs.batch(2), job.genuine.batch(2)
    losses = job.step(2)
    S = phi_sr(G)
    sr = (phi_sr(A) - H).square().mean()
    unsupervised = (ds(S) - G).square().mean()
    fool = F.softplus(-job.df(job.phi_fr(S))).mean()  # Df stepped before
    total = sr + 0.01 * unsupervised + 0.03 * fool
    judge = F.softplus(-df(job.phi_fr(H))).mean() + F.softplus(df(job.phi_fr(S))).mean()
    wanted = {"joint": total, "l_sr": sr, "l_cr_sr": unsupervised, "l_cr_gan": fool, "l_df": judge}
    assert set(losses) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=1e-6)
    total.backward()
    torch.testing.assert_close(gradients(job.phi_sr), gradients(phi_sr), rtol=1e-4, atol=1e-6)


def test_the_feature_term_of_wo_cr_is_ramped_like_that_of_cr(build: Build, make_params: Make) -> None:
    job = build("wo_cr", make_params({**PLAIN, "finetune_joint.adv_ramp": 1.0}))  # of 6 steps
    losses = job.step(2)
    wanted = losses["l_sr"] + 0.01 * losses["l_cr_sr"] + 0.01 * losses["l_cr_gan"]
    torch.testing.assert_close(losses["joint"], wanted)


def test_artificial_and_genuine_faces_pass_phi_sr_as_one_batch(build: Build, make_params: Make) -> None:
    job = build("wo_cr", make_params({**PLAIN, "super_resolver.norm": "bn"}))
    mixed, separate = deepcopy(job.phi_sr), deepcopy(job.phi_sr)
    A, G = job.pairs.batch(0)[0], job.genuine.batch(0)
    job.step(0)
    with torch.no_grad():
        mixed(torch.cat([A, G]))
        separate(A)
        separate(G)
    right, wrong, found = (dict(network.named_buffers()) for network in (mixed, separate, job.phi_sr))
    assert right
    assert all(torch.equal(value, right[name]) for name, value in found.items())
    assert max((value - wrong[name]).abs().max() for name, value in found.items() if name.endswith("var")) > 1e-3


@pytest.mark.parametrize("variant", ["wo_cr", "wo_sr_ri_joint"])
def test_no_faces_to_train_sr_on_pseudo(build: Build, make_params: Make, variant: str) -> None:
    """W/O CR has no phi_inv, and W/O SR-RI shows phi_sr no regulated face, not even a pseudo-genuine one."""
    switched = [advanced(build(variant, make_params({"finetune_joint.sr_on_pseudo": on})), 3) for on in (False, True)]
    assert identical(*switched)
    full = [advanced(build("wo_ul", make_params({"finetune_joint.sr_on_pseudo": on})), 1) for on in (False, True)]
    assert not identical(*full)


# --- Table 6, its other reading: stage 2 without SR on regulated images ----------------------------------


def test_a_step_of_wo_sr_ri_joint_is_equations_1_and_6(build: Build, make_params: Make) -> None:
    job = build("wo_sr_ri_joint", make_params(PLAIN))
    phi_sr, phi_cr = deepcopy(job.phi_sr), deepcopy(job.phi_cr)
    (A, H), G = job.pairs.batch(1), job.genuine.batch(1)
    losses = job.step(1)
    sr = (phi_sr(A) - H).square().mean()
    cr = (A - phi_cr(job.phi_inv(A))).square().mean() + 0.2 * F.softplus(-job.d(phi_cr(G))).mean()
    torch.testing.assert_close(losses["joint"], sr + 0.06 * cr)
    (sr + 0.06 * cr).backward()
    for mine, by_hand in ((job.phi_sr, phi_sr), (job.phi_cr, phi_cr)):
        torch.testing.assert_close(gradients(mine), gradients(by_hand), rtol=1e-4, atol=1e-6)
        assert gradients(mine).abs().max() > 1e-5


@pytest.mark.parametrize("norm", ["none", "bn"])
def test_genuine_faces_do_not_reach_phi_sr_of_wo_sr_ri_joint(
    build: Build, make_params: Make, tmp_path: Path, norm: str
) -> None:
    """Neither as a gradient nor through batch statistics: other genuine faces leave phi_sr the same to the bit."""
    others = draw_genuine_faces(tmp_path / "others", first=80)
    params = make_params({**PLAIN, "super_resolver.norm": norm, "regulariser.norm": norm})
    for variant, alike in (("wo_sr_ri_joint", True), ("wo_ul", False)):
        jobs = [build(variant, params, genuine) for genuine in (None, others)]
        for job in jobs:
            for step in range(3):
                job.step(step)
        assert same(state_of(jobs[0].phi_sr), jobs[1].phi_sr) == alike
        assert not same(state_of(jobs[0].phi_cr), jobs[1].phi_cr)


# --- what every variant promises -------------------------------------------------------------------------


def test_variants_start_alike_and_draw_alike(build: Build, make_params: Make) -> None:
    """They differ by their terms and by nothing else."""
    params = make_params(SWITCHED_ON)
    jobs = [build(variant, params) for variant in JOINT_VARIANTS]
    full = jobs[0]
    for job in jobs[1:]:
        for name, network in job.networks.items():
            assert same(state_of(full.networks[name]), network)
        assert torch.equal(job.pairs.batch(3)[1], full.pairs.batch(3)[1])
        assert torch.equal(job.genuine.batch(3), full.genuine.batch(3))
        x = torch.zeros(4, 3, 16, 16)
        assert torch.equal(job.augment(x, 3, "A"), full.augment(x, 3, "A"))


# --- from folders to a method ----------------------------------------------------------------------------


MODELS = {
    "cr": ["sr_module", "characteristic", "inverse_cr", "centreface"],
    "wo_cr": ["sr_module", "centreface"],
    "wo_ul": ["sr_module", "characteristic", "inverse_cr", "centreface"],
    "wo_sr_ri_joint": ["sr_module", "characteristic", "inverse_cr"],
}


def save_first_stage(folder: Path, params: Params) -> None:
    """The model folders of stage 1."""
    for name, model in vars(fresh_first_stage(params)).items():
        (folder / name).mkdir(parents=True)
        save_model(folder / name, model.networks, model.blueprints, model.info)


@pytest.mark.parametrize("variant", JOINT_VARIANTS)
def test_a_variant_demands_the_models_it_uses(tmp_path: Path, toy_params: Params, variant: str) -> None:
    save_first_stage(tmp_path, toy_params)
    for name in set(MODELS["cr"]) - set(MODELS[variant]):
        shutil.rmtree(tmp_path / name)
    assert list(FirstStage.load(tmp_path, VARIANTS[variant].uses, 0, image_gan=True).used()) == MODELS[variant]
    for name in MODELS[variant]:
        (tmp_path / name).rename(tmp_path / "elsewhere")
        with pytest.raises(CharregError, match=f"{tmp_path / name}: no model"):
            FirstStage.load(tmp_path, VARIANTS[variant].uses, 0, image_gan=False)
        (tmp_path / "elsewhere").rename(tmp_path / name)


def test_a_seed_goes_on_from_its_own_models(tmp_path: Path, toy_params: Params) -> None:
    """All but the recogniser, which is trained once."""
    save_first_stage(tmp_path, toy_params)
    with pytest.raises(CharregError, match="sr_module: no model of seed 7, wanted one for every entry of `seeds`"):
        FirstStage.load(tmp_path, FinetuneJoint.uses, 7, image_gan=False)
    for name in ("sr_module", "characteristic", "inverse_cr"):
        model = load_model(tmp_path / name)
        (tmp_path / name / "seed-7").mkdir()
        save_model(tmp_path / name / "seed-7", model.networks, model.blueprints, {"seed": 7})
    first = FirstStage.load(tmp_path, FinetuneJoint.uses, 7, image_gan=False)
    assert [model.info["seed"] for model in first.used().values()] == [7, 7, 7, 0]


def test_the_stage_of_wo_cr_makes_a_method_without_phi_cr(workshop: Workshop, tmp_path: Path) -> None:
    for unused in ("characteristic", "inverse_cr"):
        shutil.rmtree(workshop.folder / unused)
    run = workshop.run("finetune_joint@wo_cr", "run")
    assert run.code == 0, run.text
    note = json.loads((run.model / "model.json").read_text())
    assert (note["job"], note["seed"]) == ("wo_cr", 0)
    assert list(note["networks"]) == ["super_resolver"]
    assert sorted(note["data"]) == ["centreface", "hr", "lr", "sr_module"]

    method, genuine = load_method(run.model, CPU), open_faces(workshop.folder / "lr")
    assert method.phi_cr is None
    assert method.phi_sr is not None
    G = to_tensor(np.asarray(genuine.images))
    with torch.no_grad():
        assert torch.equal(method.super_resolve(G, "genuine"), method.phi_sr(G))
    (tmp_path / "sr").mkdir()
    resolve_faces(method, genuine, tmp_path / "sr", "web", CPU)
    assert [path.name for path in (tmp_path / "sr").iterdir()] == ["web"]  # nothing was regulated
