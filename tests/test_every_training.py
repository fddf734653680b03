"""What every training promises: determinism, resuming, batches that can be shared, exports, signals, sheets; and the
published sizes of the compared systems, and that they learn."""

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from charreg.core.errors import CharregError
from charreg.core.faces import LANDMARK_COLUMNS, FaceSet, open_faces
from charreg.core.models import load_model, save_model
from charreg.core.resampling import up
from charreg.networks.deep_residual import Vdsr
from charreg.networks.super_resolver import SuperResolver
from charreg.peers.base import PeerInputs, job_of
from charreg.peers.cyclegan import PatchDiscriminator, TranslatingSuperResolver, Translator
from charreg.peers.fsrnet import FSRNet
from charreg.peers.lrgan import HighToLow
from charreg.peers.sicnn import CnnH, CnnR
from charreg.peers.srgan import SrganDiscriminator, SrganGenerator
from charreg.training import distributed
from charreg.training.loop import Training
from conftest import TRAININGS, build_peer, draw_genuine_faces, draw_hr_faces, graph_of, make_job, params_of, reaches
from training_fixtures import (
    BATCH_NORM,
    EVERYTHING_ON,
    NO_BATCH_NORM,
    PEERS,
    SCHEDULE,
    ForkServer,
    free_port,
    mark_faces,
)

pytest_plugins = ["training_fixtures"]

State = dict[str, Tensor]
Faces = tuple[FaceSet, FaceSet]
Curves = dict[str, list[dict[str, float]]]
STEPS, BEFORE, AMID = 8, 3, 5  # of a run; stops before and amid the last phase of those that have phases

JOINT = ("joint", "l_sr", "l_cr", "l_cr_sr", "l_cr_gan", "l_d", "l_df", "l_d_sr")
LOSSES = {
    "centreface": ("l_recognition", "accuracy"),
    "matcher": ("l_recognition", "accuracy"),
    "sr_module": ("l_sr", "l_d_sr", "l_adv"),
    "inverse_cr": ("l_d_inv", "l_inv", "content"),
    "characteristic": ("l_d", "l_cr", "reconstruction", "identity"),
    "cr": JOINT,
    "wo_cr": tuple(name for name in JOINT if name not in ("l_cr", "l_d")),
    "wo_ul": JOINT,
    "wo_sr_ri_joint": ("joint", "l_sr", "l_cr", "l_d", "l_d_sr"),
    "vdsr": ("l_sr",),
    "srgan": ("l_sr", "l_d", "l_content", "l_adv"),
    "fsrnet": ("l_coarse", "l_fine", "l_prior"),
    "sicnn": ("l_sr", "l_si", "l_r_hr", "l_r_sr"),
    "cyclegan": ("l_gan", "l_cycle", "l_identity", "l_d_x", "l_d_y"),
    "csri": ("l_sr", "l_id_syn", "l_id_native"),
    "lrgan": ("l_d_lr", "hl_pixel", "hl_gan", "l_d_hr", "lh_pixel", "lh_gan"),
}
GOLDEN: dict[str, tuple[float, ...]] = {  # losses of the last step, in float64
    "centreface": (2.22249, 0.25),
    "matcher": (2.08313, 0.5),
    "sr_module": (0.00521347, 1.39609, 0.660158),
    "inverse_cr": (1.23851, 0.639804, 0.000154973),
    "characteristic": (1.32764, 0.171043, 0.00717229, 0.000606887),
    "cr": (14.8265, 2.10381, 0.616714, 0.521072, 0.768195, 1.42052, 1.39869, 1.25085),
    "wo_cr": (6.48782, 6.38346, 0.607664, 0.769231, 1.39803, 1.20371),
    "wo_ul": (14.8215, 2.10383, 0.616707, 0.521354, 0.768194, 1.42051, 1.39869, 1.25084),
    "wo_sr_ri_joint": (6.32367, 6.21544, 0.585369, 1.41365, 1.22277),
    "vdsr": (0.00439484,),
    "srgan": (0.00456432, 1.38983, 0.670437, 0.665502),
    "fsrnet": (0.00465784, 0.00441215, 0.791877),
    "sicnn": (0.00442432, 0.0011531, 1.3816, 1.38156),
    "cyclegan": (1.73245, 0.704543, 0.706866, 0.370958, 0.485114),
    "csri": (0.00471167, 0.18024, 0.0343098),
    "lrgan": (0, 0, 0, 2.0283, 0.00473583, -0.157546),
}
GOLDEN_LOOKS = {  # the sum of the signals at the last step, and the mean level of the sheet
    "centreface": (25.692, 131.313),
    "matcher": (39.7443, 131.766),
    "sr_module": (68.2239, 131.632),
    "inverse_cr": (78.0915, 112.137),
    "characteristic": (134.087, 92.5744),
    "cr": (89.1447, 74.5396),
    "wo_cr": (19.777, 70.9708),
    "wo_ul": (89.1446, 74.5396),
    "wo_sr_ri_joint": (88.9536, 74.6275),
    "vdsr": (67.6434, 131.715),
    "srgan": (68.2482, 131.693),
    "fsrnet": (97.4458, 137.041),
    "sicnn": (68.7774, 131.753),
    "cyclegan": (56.8043, 112.086),
    "csri": (68.1731, 131.716),
    "lrgan": (133.483, 108.168),
}


def verdicts(*judges: str) -> set[str]:
    return {f"{judge}_{what}" for judge in judges for what in ("real", "fake", "accuracy")}


PSNR = {"psnr_train", "psnr_bicubic"}
RECOGNITION = {"accuracy_unmirrored", "feature_length", "centre_distance"}
REGULATION = {"psnr_R_G", "psnr_P_A", "psnr_regulated_P_A"} | verdicts("d")
SUPER_RESOLUTION = {"psnr_train", "mse_DS_S_R"}
SIGNALS = {
    "centreface": RECOGNITION,
    "matcher": RECOGNITION,
    "sr_module": PSNR | verdicts("d_sr"),
    "inverse_cr": {"psnr_P_A"} | verdicts("d_inv"),
    "characteristic": REGULATION,
    "cr": SUPER_RESOLUTION | REGULATION | verdicts("df"),
    "wo_cr": SUPER_RESOLUTION | verdicts("df"),
    "wo_ul": SUPER_RESOLUTION | REGULATION | verdicts("df"),
    "wo_sr_ri_joint": SUPER_RESOLUTION | REGULATION,
    "vdsr": PSNR,
    "srgan": PSNR | verdicts("d"),
    "fsrnet": PSNR | {"psnr_coarse"},
    "sicnn": PSNR | {"accuracy_hr", "accuracy_sr", "l_si"},
    "cyclegan": PSNR | {"cycle_x", "cycle_y", "identity_x", "identity_y", "colour_shift"} | verdicts("d_x", "d_y"),
    "csri": PSNR | {"accuracy_syn", "accuracy_native"},
    "lrgan": PSNR | {"psnr_hl"} | verdicts("d_lr", "d_hr"),
}
ROWS = {"centreface": 2, "matcher": 2, "inverse_cr": 3, "characteristic": 3, "wo_cr": 3, "fsrnet": 6, "cyclegan": 6}
ROWS |= {"lrgan": 5}  # of the sheet; 4 of the others
FROZEN = {
    "characteristic": ["phi_inv"],
    "cr": ["phi_fr", "phi_inv"],
    "wo_cr": ["phi_fr"],
    "wo_ul": ["phi_fr", "phi_inv"],
    "wo_sr_ri_joint": ["phi_inv"],
    "srgan": ["content"],
}
ROUTES = {  # the losses that reach a network with a gradient, at the last step
    "centreface": {"centreface": "l_recognition", "head": "l_recognition"},
    "matcher": {"centreface": "l_recognition", "head": "l_recognition"},
    "sr_module": {"super_resolver": "l_sr l_adv", "image_discriminator": "l_d_sr"},
    "inverse_cr": {"inverse_regulariser": "l_inv", "inverse_discriminator": "l_d_inv"},
    "characteristic": {"regulariser": "l_cr reconstruction", "discriminator": "l_d"},
    "cr": {
        "super_resolver": "l_sr l_cr_sr l_cr_gan",
        "regulariser": "l_cr l_cr_sr l_cr_gan",
        "discriminator": "l_d",
        "feature_discriminator": "l_df",
        "image_discriminator": "l_d_sr",
    },
    "wo_cr": {
        "super_resolver": "l_sr l_cr_sr l_cr_gan",
        "feature_discriminator": "l_df",
        "image_discriminator": "l_d_sr",
    },
    "wo_sr_ri_joint": {
        "super_resolver": "l_sr",
        "regulariser": "l_cr",
        "discriminator": "l_d",
        "image_discriminator": "l_d_sr",
    },
    "vdsr": {"super_resolver": "l_sr"},
    "srgan": {"super_resolver": "l_sr l_content l_adv", "discriminator": "l_d"},
    "fsrnet": {"super_resolver": "l_coarse l_fine l_prior"},
    "sicnn": {"super_resolver": "l_sr l_si", "cnn_r": "l_r_hr l_r_sr", "classifier": "l_r_hr l_r_sr"},
    "cyclegan": {
        "super_resolver": "l_gan l_cycle l_identity",
        "back_translator": "l_gan l_cycle l_identity",
        "d_x": "l_d_x",
        "d_y": "l_d_y",
    },
    "csri": {
        "super_resolver": "l_sr l_id_syn l_id_native",
        "recogniser": "l_id_syn l_id_native",
        "synthetic_head": "l_id_syn",
        "native_head": "l_id_native",
    },
    "lrgan": {
        "high_to_low": "hl_pixel hl_gan",
        "super_resolver": "lh_pixel lh_gan",
        "lr_discriminator": "l_d_lr",
        "hr_discriminator": "l_d_hr",
    },
}
ROUTES["wo_ul"] = ROUTES["cr"]
PHASES = {  # at steps around the beginning of a phase: the networks that move, the losses that are not zero
    "sr_module": {
        1: ("super_resolver", "l_sr"),
        2: ("super_resolver image_discriminator", "l_sr l_d_sr l_adv"),
    },
    "srgan": {3: ("super_resolver", "l_sr"), 4: ("super_resolver discriminator", "l_sr l_d l_content l_adv")},
    "sicnn": {
        3: ("super_resolver cnn_r classifier", "l_sr l_r_hr"),
        4: ("super_resolver cnn_r classifier", "l_sr l_si l_r_hr l_r_sr"),  # CNN_R goes on learning
    },
    "csri": {
        1: ("super_resolver", "l_sr"),
        2: ("super_resolver recogniser synthetic_head", "l_sr l_id_syn"),
        4: ("super_resolver recogniser synthetic_head native_head", "l_sr l_id_syn l_id_native"),
    },
    "lrgan": {
        3: ("high_to_low lr_discriminator", "l_d_lr hl_pixel hl_gan"),
        4: ("super_resolver hr_discriminator", "l_d_hr lh_pixel lh_gan"),
    },
}
PARTS = {  # of a resume state: one that a training could forget
    "centreface": "network.head/",
    "matcher": "optimiser.sgd/",
    "sr_module": "optimiser.d_sr/",
    "inverse_cr": "average.inverse_regulariser/",
    "characteristic": "network.discriminator/",
    "cr": "optimiser.joint/",
    "wo_cr": "optimiser.df/",
    "wo_ul": "average.regulariser/",
    "wo_sr_ri_joint": "optimiser.d/",
    "vdsr": "optimiser.vdsr/",
    "srgan": "optimiser.d/",
    "fsrnet": "optimiser.fsrnet/",
    "sicnn": "optimiser.cnn_r/",
    "cyclegan": "network.history_",
    "csri": "network.native_head/",
    "lrgan": "network.high_to_low/",
}


class Whole(NamedTuple):
    """A training from its first step to its last, its networks before, and its state after step BEFORE."""

    training: Training
    start: dict[str, State]
    frozen: dict[str, State]
    tensors: State
    note: dict[str, Any]


def state_of(network: nn.Module) -> State:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def frozen_of(job: Any) -> dict[str, nn.Module]:
    """The networks a job uses and does not train, by the names of its attributes."""
    trained = {module for network in job.networks.values() for module in network.modules()}
    return {name: value for name, value in vars(job).items() if isinstance(value, nn.Module) and value not in trained}


def started(name: str, faces: Faces, seed: int = 0, **changes: Any) -> Training:
    """A training in its toy size with all that keeps something from step to step; the global generator has no part."""
    torch.manual_seed(next(DRAWN))
    changes = {**EVERYTHING_ON, **BATCH_NORM, **changes}
    return Training(make_job(name, params_of(changes, seed=seed, epoch_scale=STEPS / SCHEDULE["iterations"]), *faces))


DRAWN = count()


def state(training: Training) -> tuple[State, dict[str, Any]]:
    """What a resume state holds."""
    return deepcopy(training.tensors()), {"step": training.done, **deepcopy(training.note())}


def advanced(training: Training, steps: int) -> Training:
    while training.done < steps:
        training.advance()
        training.look()
    return training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `hr` and `lr` of drawn faces, with landmarks and people as the peers want them."""
    folder = tmp_path_factory.mktemp("faces")
    mark_faces(draw_hr_faces(folder / "drawn"), folder / "hr")
    draw_genuine_faces(folder / "lr")
    return folder


@pytest.fixture(scope="module")
def faces(folder: Path) -> Faces:
    return open_faces(folder / "hr"), open_faces(folder / "lr")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of the curves every step, signals and sheets at half of the run and at its end."""
    for what, steps in (("LOG", 1), ("HEALTH", STEPS // 2), ("SHEET", STEPS // 2)):
        monkeypatch.setenv(f"CHARREG_{what}_EVERY", str(steps))


@pytest.fixture(scope="module")
def whole(faces: Faces) -> Callable[[str], Whole]:
    """A finished training by its name; trained once."""

    @cache
    def trained(name: str) -> Whole:
        training = started(name, faces)
        start = {name: state_of(network) for name, network in training.job.networks.items()}
        frozen = {name: state_of(network) for name, network in frozen_of(training.job).items()}
        tensors, note = state(advanced(training, BEFORE))
        return Whole(advanced(training, STEPS), start, frozen, tensors, note)

    return trained


every = pytest.mark.parametrize("name", TRAININGS)


@every
def test_the_seed_decides_every_bit(name: str, whole: Callable[[str], Whole], faces: Faces) -> None:
    once, again = whole(name).tensors, advanced(started(name, faces), BEFORE).tensors()
    assert same(again, once)
    another = advanced(started(name, faces, seed=1), BEFORE)
    other, losses = another.tensors(), whole(name).note["curves"][-1]
    assert another.curves[-1] != pytest.approx(losses, rel=1e-3)  # which one and two processes agree on
    for network in whole(name).start:
        keys = [key for key in once if key.startswith(f"network.{network}/")]
        assert any(not torch.equal(other[key], once[key]) for key in keys), network


def resumed(name: str, faces: Faces, tensors: State, note: dict[str, Any], to: int, forgets: str = "") -> Training:
    """A fresh training that goes on from a state; without a part of it."""
    again = started(name, faces)
    kept = {key: value for key, value in tensors.items() if not (forgets and key.startswith(forgets))}
    assert (len(kept) < len(tensors)) == bool(forgets)
    again.restore({**(again.tensors() if forgets else {}), **kept}, note)
    return advanced(again, to)


@every
def test_a_resumed_run_equals_the_uninterrupted_one_to_the_bit(
    name: str, whole: Callable[[str], Whole], faces: Faces
) -> None:
    """Stopped twice, before and amid the last phase."""
    ended, last = whole(name).training, f"sheet-{STEPS:07d}.png"
    amid = state(resumed(name, faces, whole(name).tensors, whole(name).note, AMID))
    again = resumed(name, faces, *amid, STEPS)
    assert same(again.tensors(), ended.tensors())
    assert (again.curves, again.signals) == (ended.curves, ended.signals)
    assert np.array_equal(again.sheets[last], ended.sheets[last])
    forgetful = resumed(name, faces, *amid, STEPS, PARTS[name])
    assert not same(forgetful.tensors(), ended.tensors())  # the comparison would notice


@every
def test_every_weight_trains_but_what_is_frozen(name: str, whole: Callable[[str], Whole]) -> None:
    job, start, frozen = whole(name).training.job, whole(name).start, whole(name).frozen
    held = {id(p) for optimiser in job.optimisers.values() for group in optimiser.param_groups for p in group["params"]}
    for key, network in job.networks.items():
        still = [k for k, v in network.named_parameters() if torch.equal(v, start[key][k]) and v.numel() > 1]
        assert not still, f"{key}: {still} did not move"
        assert all(parameter.requires_grad and id(parameter) in held for parameter in network.parameters())
    assert sorted(frozen) == FROZEN.get(name, [])
    for key, network in frozen_of(job).items():
        assert same(frozen[key], network.state_dict()), key  # parameters and batch statistics
        assert not any(layer.training for layer in network.modules() if not [*layer.children()])
        assert not any(parameter.requires_grad or id(parameter) in held for parameter in network.parameters())


@every
def test_a_step_of_an_optimiser_moves_its_weights_and_touches_no_others(name: str, faces: Faces) -> None:
    """Neither the weights nor the gradients of other networks change, frozen ones included."""
    job = started(name, faces).job
    everything = [p for network in (*job.networks.values(), *frozen_of(job).values()) for p in network.parameters()]
    plain, order = job.descend, []

    def descend(optimiser: str, loss: Tensor) -> None:
        order.append(optimiser)
        mine = {id(p) for group in job.optimisers[optimiser].param_groups for p in group["params"]}
        others = [parameter for parameter in everything if id(parameter) not in mine]
        before = [(parameter.detach().clone(), deepcopy(parameter.grad)) for parameter in others]
        plain(optimiser, loss)
        for (value, gradient), parameter in zip(before, others, strict=True):
            assert torch.equal(value, parameter)
            assert gradient is parameter.grad is None or torch.equal(gradient, parameter.grad)  # type: ignore[arg-type]

    job.descend = descend  # type: ignore[method-assign]
    for step in (0, STEPS - 1):
        job.step(step)
    assert set(order) == set(job.optimisers)


@every
def test_each_loss_reaches_its_networks(name: str, faces: Faces) -> None:
    """Discriminators get generated faces detached, and generators reach through them without training them.

    Without batch norm, whose statistics carry gradients from one part of a mixed batch to the other.
    """
    options = {**NO_BATCH_NORM, "peers.lrgan.order": "together", "peers.lrgan.output": "tanh"}
    job = started(name, faces, **options).job
    losses, totals = graph_of(job, STEPS - 1)
    found = {
        key: [loss for loss, value in losses.items() if loss != "joint" and reaches(value, network)]
        for key, network in job.networks.items()
    }
    assert {key: names for key, names in found.items() if names} == {k: v.split() for k, v in ROUTES[name].items()}
    descended = {
        key for key, network in job.networks.items() if any(reaches(loss, network) for loss in totals.values())
    }
    assert descended == set(ROUTES[name])


@pytest.mark.parametrize("name", PHASES)
def test_a_phase_trains_its_networks_on_its_losses(name: str, faces: Faces) -> None:
    for step, (networks, losses) in PHASES[name].items():
        job = started(name, faces, **{"peers.lrgan.output": "tanh"}).job
        before = {key: state_of(network) for key, network in job.networks.items()}
        found = job.step(step)
        moved = {key for key, network in job.networks.items() if not same(before[key], network.state_dict())}
        assert moved == set(networks.split())
        assert [loss for loss, value in found.items() if value] == losses.split()


@every
def test_signals_are_finite_and_sheets_are_pictures(name: str, whole: Callable[[str], Whole]) -> None:
    training = whole(name).training
    assert [row["step"] for row in training.signals] == [STEPS // 2, STEPS]
    for row in training.signals:  # the loop leaves out what is not finite
        assert set(row) == {"step"} | SIGNALS[name]
    pictures = [training.sheets[f"sheet-{step:07d}.png"] for step in (STEPS // 2, STEPS)]
    assert all(picture.dtype == np.uint8 for picture in pictures)
    assert all(picture.shape == (ROWS.get(name, 4) * 64, 12 * 64, 3) for picture in pictures)
    assert all(np.ptp(picture) > 100 for picture in pictures)
    before = state(training)[0]
    modes = {key: network.training for key, network in training.job.networks.items()}
    training.look()  # changes nothing
    assert training.signals.pop() == training.signals[-1]
    assert same(training.tensors(), before)
    assert modes == {key: key != "high_to_low" for key in modes}  # LRGAN's rests in the last phase


@every
def test_exports_are_rebuilt_from_their_folder(name: str, whole: Callable[[str], Whole], tmp_path: Path) -> None:
    job, exported = whole(name).training.job, deepcopy(whole(name).training).exported()
    assert job.iterations == STEPS  # two thirds of the declared ones, as epoch_scale says
    assert set(job.averaged) <= set(job.exports) <= set(job.networks)
    save_model(tmp_path, exported, job.blueprints, {"job": job.name})
    model = load_model(tmp_path)
    assert list(model.networks) == list(job.exports)
    for key, network in exported.items():
        assert same(state_of(model.networks[key]), state_of(network))
        assert not model.networks[key].training
    if "super_resolver" in exported:
        x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
        with torch.no_grad():
            S = model.networks["super_resolver"](x)
            assert S.shape == (2, 3, 64, 64)
            assert torch.equal(S, exported["super_resolver"](x))


@every
def test_a_batch_that_cannot_be_shared_is_refused(name: str, faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 3)
    with pytest.raises(CharregError, match="batch 4, wanted a multiple of the 3 processes"):
        started(name, faces)


@pytest.fixture(scope="module")
def few_faces(tmp_path_factory: pytest.TempPathFactory) -> list[Faces]:
    folder = tmp_path_factory.mktemp("few")
    sizes = enumerate([(2, 5), (5, 2)])
    return [
        (draw_hr_faces(folder / f"hr{i}", hr, 3), draw_genuine_faces(folder / f"lr{i}", lr, 3)) for i, (hr, lr) in sizes
    ]


@every
def test_sets_smaller_than_a_sheet(name: str, few_faces: list[Faces]) -> None:
    for faces in few_faces:
        job = started(name, faces, **{"peers.csri.native_ids": "manifest"}).job
        with torch.no_grad():
            sheet = job.sheet({key: network.eval() for key, network in job.networks.items()})
        assert sheet.shape[0] == ROWS.get(name, 4) * 64
        assert sheet.shape[1] in (6 * 64, 12 * 64)


# --- the compared systems' networks ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (Vdsr, 668_227),
        (SrganGenerator, 1_549_462),  # 16 blocks and no batch norm before the shuffle, where re-implementations differ
        (SrganDiscriminator, 13_079_745),
        (partial(SrganDiscriminator, pooling="global"), 5_215_425),
        (FSRNet, 2_809_163),
        (CnnH, 3_079_377),
        (CnnR, 25_963_072),
        (partial(CnnR, layers=20), 15_854_912),
        (Translator, 7_837_699),
        (TranslatingSuperResolver, 7_837_699),
        (partial(Translator, blocks=9), 11_378_179),
        (PatchDiscriminator, 2_764_737),
        (HighToLow, 1_603_331),
        (partial(SuperResolver, activation="relu"), 1_586_499),  # LRGAN's
    ],
)
def test_published_sizes(network: Callable[[], nn.Module], parameters: int) -> None:
    with torch.device("meta"):  # nothing is allocated
        assert sum(parameter.numel() for parameter in network().parameters()) == parameters


@pytest.mark.parametrize(
    "network",
    [
        partial(Vdsr, 4, 5),
        partial(SrganGenerator, 4, 2, norm="none", output="residual"),
        partial(FSRNet, 4, output="residual"),
        partial(CnnH, 0.0625, output="residual"),
    ],
)
def test_residual_networks_start_at_bicubic(network: Callable[[], nn.Module]) -> None:
    A = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(network()(A), up(A))


# --- they learn ------------------------------------------------------------------------------------------


BY_HEART: dict[str, dict[str, Any]] = {  # what eight faces need
    "vdsr": {"iterations": 60, "lr": 3e-3, "width": 8, "depth": 4},
    "srgan": {
        "iterations": 150,
        "lr": 4e-3,
        "width": 16,
        "blocks": 2,
        "output": "tanh",
        "d_width": 8,
        "gan_share": 0.2,
    },
    "fsrnet": {"iterations": 50, "lr": 6e-4, "width": 8, "encoder_blocks": 2},
    "sicnn": {"iterations": 130, "lr": 5e-3, "width": 0.125, "embedding": 16, "pretrain_share": 0.9, "clip_norm": 0.2},
    "csri": {"iterations": 320, "lr": 2e-3, "width": 8, "depth": 4, "native_ids": "auto"},
}
GAIN = {"vdsr": 2, "fsrnet": 2, "csri": 0.5}  # dB over bicubic; CSRI's identity losses pull the other way
LEFT = {"srgan": ("l_content", 1), "fsrnet": ("l_prior", 0.5)}  # of a loss, of what it was when it began
SLOW = ("srgan", "sicnn", "csri")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in BY_HEART])
def test_eight_faces_are_learnt_by_heart(name: str, inputs: PeerInputs) -> None:
    """Pixels, who is who, SRGAN's content loss in its GAN part, and FSRNet's landmarks, as far as so few steps go."""
    places = np.random.default_rng(0).uniform(20, 48, (len(LANDMARK_COLUMNS), len(inputs.hr)))
    index = inputs.hr.index.assign(**dict(zip(LANDMARK_COLUMNS, places, strict=True)))
    given = replace(inputs, hr=replace(inputs.hr, index=index))
    lr_decay = "none" if name in ("vdsr", "srgan") else "cosine"
    options = {"batch": 8, "ema": 0.0, "lr_decay": lr_decay, **PEERS[name], **BY_HEART[name]}
    training = Training(build_peer(job_of(name), options, given))
    while training.done < training.job.iterations:
        training.advance()
    with torch.no_grad():
        found = training.job.health({key: network.eval() for key, network in training.measured().items()})
    print(found)
    assert found["psnr_train"] > max(30, found["psnr_bicubic"] + GAIN.get(name, 0))
    assert all(value == 1 for signal, value in found.items() if signal.startswith("accuracy_"))
    assert found.get("l_si", 0) < 0.05
    loss, left = LEFT.get(name, ("l_sr", 1))
    values = [row[loss] for row in training.curves if row[loss]]
    assert values[-1] < left * values[0]


# --- in float64: the same numbers everywhere -------------------------------------------------------------


def trainings_in_double(folder: Path, steps: int) -> dict[str, Training]:
    """Every training after some steps, by one process or by each of several."""
    faces = open_faces(folder / "hr"), open_faces(folder / "lr")
    trainings = {name: started(name, faces) for name in TRAININGS}
    for training in trainings.values():
        while training.done < steps:
            training.advance()
    return trainings


def train_together(folder: str) -> None:
    """What one of several processes does; the first writes the curves."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    distributed.start("cpu")
    curves = {name: training.curves for name, training in trainings_in_double(Path(folder), STEPS - 2).items()}
    if distributed.rank() == 0:
        (Path(folder) / "curves.json").write_text(json.dumps(curves))
    distributed.stop()


@pytest.fixture(scope="module")
def in_double(folder: Path) -> dict[str, Training]:
    """Every training at its end, looked at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARREG_LOG_EVERY", "1")
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            trainings = trainings_in_double(folder, STEPS)
            for training in trainings.values():
                training.look()
            return trainings
        finally:
            torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def curves_of_two(folder: Path, server: ForkServer) -> Curves:
    """The same by two processes, which take half of every batch each."""
    shared = {"WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    shared |= {"MASTER_PORT": str(free_port()), "CHARREG_LOG_EVERY": "1"}
    runs = [
        server.start(
            folder,
            folder / f"log{rank}",
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            call=[__name__, "train_together", str(folder)],
        )
        for rank in range(2)
    ]
    for run in runs:
        assert run.wait(240).code == 0, run.text
    found: Curves = json.loads((folder / "curves.json").read_text())
    return found


@every
def test_losses_are_named_and_known(name: str, in_double: dict[str, Training]) -> None:
    """Stored numbers, those of the last step: what changes the arithmetic of any step before changes them too."""
    last = in_double[name].curves[-1]
    assert list(last) == ["step", *LOSSES[name]]
    assert [last[loss] for loss in LOSSES[name]] == pytest.approx(GOLDEN[name], rel=1e-4, abs=1e-7)


@every
def test_signals_and_sheets_are_known(name: str, in_double: dict[str, Training]) -> None:
    """Stored numbers, one for all signals together and the mean grey level of the sheet."""
    (signals,), (sheet,) = in_double[name].signals, in_double[name].sheets.values()
    assert (sum(signals.values()), sheet.mean()) == pytest.approx(GOLDEN_LOOKS[name], rel=1e-4)


@pytest.mark.slow
@every
def test_two_processes_train_as_one(name: str, in_double: dict[str, Training], curves_of_two: Curves) -> None:
    assert len(curves_of_two[name]) == STEPS - 2
    for alone, together in zip(in_double[name].curves, curves_of_two[name], strict=False):
        assert together == pytest.approx(alone, rel=1e-9, abs=1e-9)
