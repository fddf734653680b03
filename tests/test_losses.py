"""Every equation against numbers worked out by hand, and the wrong readings beside the right ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.models import Blueprint
from charreg.core.tensors import to_tensor
from charreg.cr import losses
from charreg.cr.losses import move_centres
from charreg.networks.blocks import freeze
from charreg.networks.centreface import CentreFace
from conftest import fresh_model, smooth_images

LOG2 = 0.6931471805599453  # sp(0)
SP1 = 1.3132616875182228  # sp(1) = log(1 + e); sp(-1) = sp(1) - 1
SPM1 = 0.31326168751822286
SP2 = 2.1269280110429727  # sp(2); sp(-2) = sp(2) - 2
SPM2 = 0.1269280110429725
EXTREME = [-1e30, -1e4, -90.0, 0.0, 90.0, 1e4]


def images(*values: float, size: int = 16) -> Tensor:
    """Constant images [len(values), 3, size, size]."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None].expand(-1, 3, size, size).contiguous()


def test_sr_loss_is_the_mean_squared_difference() -> None:
    # eq. 1-2: differences 0.5 and -1 everywhere -> (0.25 + 1) / 2
    assert losses.l_sr(images(0.5, -1, size=64), images(0, 0, size=64)).item() == pytest.approx(0.625)


def test_sr_loss_is_a_mean_and_of_minus_one_to_one() -> None:
    """The sum is 12,288 times larger per image; the range [0, 1] gives a quarter."""
    S, H = (to_tensor(smooth_images(1, seed)) for seed in (0, 1))
    right = losses.l_sr(S, H).item()
    assert (S - H).square().sum().item() == pytest.approx(12_288 * right, rel=1e-5)
    assert F.mse_loss((S + 1) / 2, (H + 1) / 2).item() == pytest.approx(right / 4, rel=1e-5)
    assert right == pytest.approx(F.mse_loss(S, H).item())
    assert (S.min() < -0.2, S.max() > 0.2) == (True, True)  # stored faces do arrive in [-1, 1]


def test_characteristic_gan() -> None:
    # eq. 3: E[sp(-D(A))] + E[sp(D(R))] = (sp(-1) + sp(-(-2))) / 2 + sp(0)
    judge = losses.l_d(logits_A=torch.tensor([1.0, -2.0]), logits_R=torch.tensor([0.0]))
    assert judge.item() == pytest.approx((SPM1 + SP2) / 2 + LOG2)
    # eq. 4: E[sp(-D(R))] = (sp(-2) + sp(1)) / 2
    assert losses.l_gan(torch.tensor([2.0, -1.0])).item() == pytest.approx((SPM2 + SP1) / 2)


def test_artificial_is_real_for_d_and_genuine_is_real_for_d_inv() -> None:
    """With the sides swapped a D that is right about everything gets the largest loss."""
    sure_real, sure_fake = torch.tensor([2.0]), torch.tensor([-2.0])
    assert losses.l_d(logits_A=sure_real, logits_R=sure_fake).item() == pytest.approx(2 * SPM2)
    assert losses.l_d(logits_A=sure_fake, logits_R=sure_real).item() == pytest.approx(2 * SP2)
    assert losses.l_d_inv(logits_G=sure_real, logits_P=sure_fake).item() == pytest.approx(2 * SPM2)
    assert losses.l_d_inv(logits_G=sure_fake, logits_P=sure_real).item() == pytest.approx(2 * SP2)


def test_inverse_characteristic_gan() -> None:
    # eq. 5: sp(-D(G)) + sp(D(P)) = sp(1) + sp(2), and sp(-D(P)) = sp(-2)
    assert losses.l_d_inv(torch.tensor([-1.0]), torch.tensor([2.0])).item() == pytest.approx(SP1 + SP2)
    assert losses.l_inv(torch.tensor([2.0])).item() == pytest.approx(SPM2)


def test_regulariser_loss() -> None:
    # eq. 6: (0.5^2) + 0.2 * sp(-1)
    found = losses.l_cr(images(0.25), images(-0.25), torch.tensor([1.0]), lambda_gan=0.2)
    assert found.item() == pytest.approx(0.25 + 0.2 * SPM1)


def test_unsupervised_sr_loss() -> None:
    # eq. 7: DS of a constant image is the same constant: (0.75 - 0.25)^2 and (0 - 0.5)^2, mean 0.25
    S, R = images(0.75, 0.0, size=64), images(0.25, 0.5)
    assert losses.l_cr_sr(S, R).item() == pytest.approx(0.25, rel=1e-5)


def test_feature_gan() -> None:
    # eq. 8: H is real: sp(-D(H)) + sp(D(S)) = sp(-2) + sp(-1); generator sp(-D(S)) = sp(1)
    assert losses.l_df(torch.tensor([2.0]), torch.tensor([-1.0])).item() == pytest.approx(SPM2 + SPM1)
    assert losses.l_df(torch.tensor([-1.0]), torch.tensor([2.0])).item() == pytest.approx(SP1 + SP2)
    assert losses.l_cr_gan(torch.tensor([-1.0])).item() == pytest.approx(SP1)


def test_joint_objective() -> None:
    # eq. 9: 1 + 0.06 * 2 + 0.01 * 3 + 0.03 * 5 = 1.30
    one, two, three, five = (torch.tensor(float(value)) for value in (1, 2, 3, 5))
    found = losses.l_joint(one, two, three, five, lambda_cr=0.06, lambda_cr_sr=0.01, lambda_cr_gan=0.03)
    assert found.item() == pytest.approx(1.30)


def test_unsupervised_weight_belongs_to_equation_7() -> None:
    """With cr_sr = 1 alone the objective is lambda_cr_sr; read as eq. 8 it would be lambda_cr_gan."""
    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    weights = {"lambda_cr": 0.06, "lambda_cr_sr": 0.01, "lambda_cr_gan": 0.03}
    assert losses.l_joint(zero, zero, one, zero, **weights).item() == pytest.approx(0.01)
    assert losses.l_joint(zero, zero, zero, one, **weights).item() == pytest.approx(0.03)
    assert losses.l_joint(zero, one, zero, zero, **weights).item() == pytest.approx(0.06)
    assert losses.l_joint(zero, zero, one, one, **{**weights, "lambda_cr_sr": 0}).item() == pytest.approx(0.03)


@pytest.mark.parametrize("real", EXTREME)
@pytest.mark.parametrize("fake", EXTREME)
def test_gan_losses_and_gradients_stay_finite(real: float, fake: float) -> None:
    logits = torch.tensor([real, fake], requires_grad=True)
    loss = losses.discriminator_loss(logits[:1], logits[1:]) + losses.generator_loss(logits[1:])
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() <= 1 + 1e-6


def test_saturating_form_would_starve_a_bad_generator() -> None:
    """The generator's form: at D = -20 the non-saturating gradient is -1, the minimax one vanishes."""
    logits = torch.tensor([-20.0], requires_grad=True)
    (right,) = torch.autograd.grad(losses.generator_loss(logits), logits)
    (wrong,) = torch.autograd.grad(-F.softplus(logits).mean(), logits)
    assert right.item() == pytest.approx(-1)
    assert abs(wrong.item()) < 1e-6


def test_recognition_loss() -> None:
    # CE of logits (0, 0) is log 2. Squared distances: (1-0)^2 + (2-0)^2 = 5 and (3-1)^2 + (0-1)^2 = 5;
    # lambda / (2 M) * 10 = 0.1 / 4 * 10 = 0.25
    features, centres = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    found = losses.l_recognition(torch.zeros(2, 2), torch.tensor([0, 1]), features, centres, 0.1)
    assert found.item() == pytest.approx(LOG2 + 0.25)


def test_recognition_loss_does_not_average_over_dimensions() -> None:
    # one face, 4 dimensions, all differences 1: lambda / 2 * 4 = 0.2; averaged over dimensions it would be 0.05
    found = losses.l_recognition(torch.zeros(1, 2), torch.tensor([0]), torch.ones(1, 4), torch.zeros(2, 4), 0.1)
    assert found.item() - LOG2 == pytest.approx(0.2, rel=1e-5)


def test_centre_update() -> None:
    # class 0 twice: sum (c - f) = (0-1)+(0-3) = -4 and (0-2)+(0-0) = -2; / (1 + 2); * 0.5 -> c = (4/6, 2/6)
    # class 1 once: (10-4, 10-10) / 2 * 0.5 = (1.5, 0) -> c = (8.5, 10); class 2 absent: untouched
    centres = torch.tensor([[0.0, 0.0], [10.0, 10.0], [7.0, 7.0]])
    move_centres(centres, torch.tensor([[1.0, 2.0], [3.0, 0.0], [4.0, 10.0]]), torch.tensor([0, 0, 1]), alpha=0.5)
    wanted = torch.tensor([[2 / 3, 1 / 3], [8.5, 10.0], [7.0, 7.0]])
    torch.testing.assert_close(centres, wanted)
    wrong = 0.5 * torch.tensor([2.0, 1.0])  # the mean of the class, without (1 + n): moves further
    assert not torch.allclose(centres[0], wrong)


def toy_recogniser() -> nn.Module:
    model = fresh_model({"fr": Blueprint.of(CentreFace, {"width": 0.0625, "embedding": 8, "batch_norm": True})})
    return model.networks["fr"]


def test_gradients_flow_through_the_frozen_recogniser() -> None:
    """Under no_grad eq. 8 trains nothing."""
    phi_fr = freeze(toy_recogniser().train())
    phi_sr = nn.Conv2d(3, 3, 1)
    S = phi_sr(to_tensor(smooth_images(2, 0)))
    losses.l_cr_gan(phi_fr(S).sum(1)).backward()
    assert phi_sr.weight.grad is not None
    assert phi_sr.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in phi_fr.parameters())
    with torch.no_grad():
        wrong = losses.l_cr_gan(phi_fr(S).sum(1))
    assert not wrong.requires_grad


def test_freezing_sets_evaluation_mode() -> None:
    """In train mode a face's features depend on the rest of its batch."""
    x = to_tensor(smooth_images(3, 0))
    phi_fr = freeze(toy_recogniser().train())
    torch.testing.assert_close(phi_fr(x)[:1], phi_fr(x[:1]))
    before = {name: value.clone() for name, value in phi_fr.state_dict().items()}
    phi_fr(x)
    assert all(torch.equal(before[name], value) for name, value in phi_fr.state_dict().items())
    phi_fr.train()
    assert not torch.allclose(phi_fr(x)[:1], phi_fr(x[:2])[:1])
    assert any(not torch.equal(before[name], value) for name, value in phi_fr.state_dict().items())
