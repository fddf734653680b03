"""Equal budgets: how many steps the generators really make, counted at their optimisers over whole toy runs.

The rule: a system that learned from artificial pairs only makes as many generator steps as pretrain_sr, one that
saw genuine faces as many as pretrain_sr, pretrain_cr and finetune_joint together. Steps of discriminators and
recognisers do not count, nor does pretrain_inverse_cr.
"""

from collections import Counter
from collections.abc import Callable
from math import gcd
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from charreg.core.faces import FaceSet
from charreg.core.params import Params, check_params, parse_yaml, scaled_iterations
from charreg.core.profiles import apply_profile, read_profile
from charreg.peers.vdsr import TrainVdsr
from charreg.report.published import GENUINE, PAIRS, ROWS
from charreg.training.job import Job, Losses
from charreg.training.loop import Training
from conftest import ROOT, draw_genuine_faces, draw_hr_faces, make_job, params_of
from training_fixtures import PEERS

PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))
OF_CR = ("pretrain_sr", "pretrain_cr", "finetune_joint")
ARTIFICIAL_ONLY = ("vdsr", "srgan", "fsrnet", "sicnn")
GENUINE_TRAINED = ("cyclegan", "csri", "lrgan")
GENERATORS = {  # the networks that turn faces into faces, where there is more than a super-resolver
    "pretrain_cr": ("regulariser",),
    "finetune_joint": ("super_resolver", "regulariser"),
    "cyclegan": ("super_resolver", "back_translator"),
    "lrgan": ("super_resolver", "high_to_low"),
}
Make = Callable[..., Job]


def shipped() -> dict[str, Any]:
    """params.yaml."""
    return dict(parse_yaml(ROOT / "params.yaml"))


def scaled_down(**changes: Any) -> Params:
    """Toy widths with the iterations of params.yaml, made as few as `epoch_scale` can without rounding any of them."""
    content = shipped()
    iterations = {f"{job}.iterations": content[job]["iterations"] for job in OF_CR}
    toy = {f"peers.{name}.{key}": value for name, options in PEERS.items() for key, value in options.items()}
    toy |= {f"peers.{name}.{key}": value for name in PEERS for key, value in {"batch": 4, "ema": 0.0}.items()}
    toy["peers.lrgan.n_critic"] = 1
    scale = 1 / gcd(*iterations.values(), *(options["iterations"] for options in content["peers"].values()))
    return params_of({**iterations, **toy, "epoch_scale": scale, **changes})


@pytest.fixture(scope="module")
def face_sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceSet, FaceSet]:
    folder = tmp_path_factory.mktemp("faces")
    return draw_hr_faces(folder / "hr"), draw_genuine_faces(folder / "lr")


@pytest.fixture
def make(face_sets: tuple[FaceSet, FaceSet]) -> Make:
    """The job of a stage of CR or of a peer, with changed params."""
    names = {"pretrain_sr": "sr_module", "pretrain_cr": "characteristic", "finetune_joint": "cr"}
    return lambda name, **changes: make_job(names.get(name, name), scaled_down(**changes), *face_sets)


def parameters_of(job: Job, network: str) -> list[Tensor]:
    return [parameter.detach() for parameter in job.networks[network].parameters()]


def steps_made(job: Job) -> Counter[str]:
    """What a job's optimisers did in a whole run: their steps by name.

    And `moved NETWORK`: iterations that changed its weights; a step without effect would be a budget in name only.
    """
    counts: Counter[str] = Counter()
    for name, optimiser in job.optimisers.items():
        optimiser.register_step_post_hook(lambda *_, name=name: counts.update([name]))
    training = Training(job)
    while training.done < job.iterations:
        before = {name: [value.clone() for value in parameters_of(job, name)] for name in job.networks}
        training.advance()
        for name, values in before.items():
            same = all(torch.equal(a, b) for a, b in zip(values, parameters_of(job, name), strict=True))
            counts[f"moved {name}"] += not same
    return counts


def optimisers_of(name: str, job: Job) -> dict[str, str]:
    """The optimiser of every generator."""
    holders = {
        id(parameter): optimiser
        for optimiser, held in job.optimisers.items()
        for group in held.param_groups
        for parameter in group["params"]
    }
    networks = GENERATORS.get(name, ("super_resolver",))
    return {network: holders[id(next(job.networks[network].parameters()))] for network in networks}


def generator_steps(name: str, job: Job) -> int:
    """Steps of the generators' optimisers in a whole run; every one of them has to move a generator."""
    counts, optimisers = steps_made(job), optimisers_of(name, job)
    for network, optimiser in optimisers.items():
        assert counts[f"moved {network}"] == counts[optimiser]
    return sum(counts[optimiser] for optimiser in set(optimisers.values()))


def units(*jobs: str) -> int:
    """Iterations that params.yaml declares for jobs together, after scaling."""
    params = scaled_down()
    return sum(scaled_iterations(getattr(params, job), params.epoch_scale) for job in jobs)


# --- counted steps ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_CR)
def test_a_stage_of_cr_makes_one_generator_step_an_iteration(name: str, make: Make) -> None:
    """In finetune_joint one step moves phi_sr and phi_cr."""
    job = make(name)
    assert len(set(optimisers_of(name, job).values())) == 1
    assert generator_steps(name, job) == units(name)


@pytest.mark.parametrize("name", [*ARTIFICIAL_ONLY, *GENUINE_TRAINED])
def test_a_compared_system_makes_the_generator_steps_of_what_saw_the_same_faces(name: str, make: Make) -> None:
    """In CycleGAN one step moves both translators, as one of CR moves phi_sr and phi_cr; for LRGAN see below."""
    assert generator_steps(name, make(name)) == units(*(OF_CR[:1] if name in ARTIFICIAL_ONLY else OF_CR))


def test_what_lrgan_spends_by_halves_is_the_sum_of_both_generators(make: Make) -> None:
    """HL learns to degrade in the first half of the budget, and LH, the one that is measured, in the second.

    However many steps their discriminators make for one of theirs.
    """
    budget = units(*OF_CR)
    made = steps_made(make("lrgan", **{"peers.lrgan.order": "halves", "peers.lrgan.n_critic": 2}))
    assert (made["hl"], made["lh"]) == (budget // 2, budget - budget // 2)
    assert (made["moved high_to_low"], made["moved super_resolver"]) == (made["hl"], made["lh"])
    assert (made["d_lr"], made["d_hr"]) == (2 * made["hl"], 2 * made["lh"])


def test_a_second_step_of_a_generator_is_counted(make: Make) -> None:
    class Greedy(TrainVdsr):
        def step(self, step: int) -> Losses:
            super().step(step)
            return super().step(step)

    job = make("vdsr")
    job.__class__ = Greedy
    assert steps_made(job)["vdsr"] == 2 * units("pretrain_sr")


# --- declared numbers ------------------------------------------------------------------------------------


def budgets(params: Params, scale: float = 1.0) -> tuple[dict[str, int], dict[str, int]]:
    """Iterations of every declared peer that the rule knows: as declared, and as the rule wants them."""
    parts = [scaled_iterations(getattr(params, job), scale) for job in OF_CR]
    rule = dict.fromkeys(ARTIFICIAL_ONLY, parts[0]) | dict.fromkeys(GENUINE_TRAINED, sum(parts))
    found = {name: scaled_iterations(params.peers[name], scale) for name in params.peers if name in rule}
    return found, {name: rule[name] for name in found}


def test_the_rule_knows_every_peer_as_the_report_does() -> None:
    assert {*ARTIFICIAL_ONLY, *GENUINE_TRAINED} == set(shipped()["peers"])
    learned = {row.method: row.learned for row in ROWS}
    assert {learned[name] for name in ARTIFICIAL_ONLY} == {PAIRS}
    assert {learned[name] for name in GENUINE_TRAINED} == {GENUINE}


def test_params_yaml_declares_equal_budgets() -> None:
    found, wanted = budgets(check_params(shipped(), ROOT / "params.yaml"))
    assert found == wanted
    assert found.keys() == PEERS.keys()


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_declares_equal_budgets(path: Path) -> None:
    """Together with what it leaves to params.yaml."""
    found, wanted = budgets(check_params(apply_profile(shipped(), read_profile(path)), path))
    assert found == wanted


@pytest.mark.parametrize("scale", [0.05, 1 / 3, 0.5, 10.0])
def test_epoch_scale_keeps_budgets_equal(scale: float) -> None:
    """To one step, as every job is rounded alone."""
    found, wanted = budgets(check_params(shipped(), ROOT / "params.yaml"), scale)
    assert all(abs(found[name] - wanted[name]) <= 1 for name in found)
