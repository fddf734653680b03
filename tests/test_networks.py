"""Layouts: parameter counts, shapes, where training starts."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.resampling import up
from charreg.core.tensors import to_tensor
from charreg.cr.regulariser import Regulariser
from charreg.networks.blocks import BatchNorm, DiscriminatorBlock, ResidualBlock, ResidualGroup, Upsampler
from charreg.networks.centreface import CentreFace
from charreg.networks.deep_residual import Vdsr
from charreg.networks.discriminators import POOLED, Discriminator, FeatureDiscriminator
from charreg.networks.super_resolver import SuperResolver
from charreg.peers.cyclegan import PatchDiscriminator, Translator
from charreg.peers.fsrnet import FSRNet
from charreg.peers.lrgan import HighToLow
from charreg.peers.sicnn import CnnH, CnnR
from charreg.peers.srgan import SrganDiscriminator, SrganGenerator
from conftest import count, rouse, smooth_images


@pytest.fixture
def lr() -> Tensor:
    return to_tensor(smooth_images(2, 0, size=16))


# --- stored numbers --------------------------------------------------------------------------------------

# Every network at a small size: arguments, shapes of its inputs; parameters, mean and deviation of its output.
LR, HR = (3, 16, 16), (3, 64, 64)
KNOWN: dict[type[nn.Module], tuple[dict[str, Any], list[tuple[int, ...]], tuple[int, float, float]]] = {
    Regulariser: ({"width": 4, "blocks": 2}, [LR], (850, 0.049740188, 0.87741831)),
    SuperResolver: ({"width": 4, "blocks": (2, 1, 1)}, [LR], (4390, -0.15276749, 0.54742573)),
    Discriminator: ({"size": 64, "width": 8}, [HR], (6809, 0.063391684, 0.033433338)),
    FeatureDiscriminator: ({"embedding": 8, "widths": (8, 4)}, [(8,)], (113, -0.20033318, 0.18452403)),
    CentreFace: ({"width": 0.0625, "embedding": 8, "batch_norm": True}, [HR], (92630, -0.9915356, 2.708595)),
    Vdsr: ({"width": 4, "depth": 4}, [LR], (519, -0.016756002, 0.39984959)),
    SrganGenerator: ({"width": 4, "blocks": 3}, [LR], (4233, -0.033813301, 0.088888305)),
    SrganDiscriminator: ({"width": 4}, [HR], (51645, 0.09393081, 0.012900732)),
    FSRNet: (
        {"width": 4, "encoder_blocks": 2, "coarse_blocks": 1, "decoder_blocks": 1, "hourglasses": 2, "depth": 3},
        [LR],
        (9087, -0.13569919, 0.69090349),
    ),
    CnnH: ({"width": 0.125}, [LR], (49497, -0.037545599, 0.059646597)),
    CnnR: ({"width": 0.0625, "layers": 20, "embedding": 8}, [HR], (50300, 0.0073695919, 0.044636618)),
    Translator: ({"width": 4, "blocks": 2}, [HR], (13379, -0.12301623, 0.18189112)),
    PatchDiscriminator: ({"width": 4}, [HR], (11517, -0.097354083, 0.22171309)),
    HighToLow: ({"width": 4}, [HR, (64,)], (272051, 0.033010214, 0.23328204)),
}


@pytest.mark.parametrize("network", KNOWN, ids=lambda network: network.__name__)
def test_every_network_computes_what_it_did(network: type[nn.Module]) -> None:
    """In float64, layers that start at zero roused: another layer, order, padding or activation gives other numbers."""
    arguments, shapes, known = KNOWN[network]
    assert measured(network, arguments, shapes) == pytest.approx(known, rel=1e-5)


def measured(
    network: type[nn.Module], arguments: dict[str, Any], shapes: list[tuple[int, ...]]
) -> tuple[int, float, float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = rouse(network(**arguments)).double()
        y = built(*((torch.rand(2, *shape, dtype=torch.float64) * 2 - 1).cumsum(-1) / 4 for shape in shapes))
    return count(built), y.mean().item(), y.std().item()


# --- counts ----------------------------------------------------------------------------------------------


def test_parameter_counts_at_the_papers_widths() -> None:
    assert count(Regulariser()) == 225_863
    assert count(SuperResolver()) == 1_586_519
    assert count(FeatureDiscriminator()) == 238_337
    with torch.device("meta"):  # nothing is allocated
        assert count(CentreFace()) == 26_488_224


@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("pooling", ["late", "early"])
@pytest.mark.parametrize("spectral_norm", [True, False])
def test_discriminators_have_one_count_for_both_sizes(size: int, pooling: str, spectral_norm: bool) -> None:
    assert count(Discriminator(size, pooling=pooling, spectral_norm=spectral_norm)) == 409_281  # type: ignore[arg-type]


def test_defaults_of_the_classes_are_the_papers_layouts() -> None:
    """Layout by hand: the counts alone do not say what the layers are."""
    network = SuperResolver()
    assert [len(group.blocks) for group in (network.group1, network.group2, network.group3)] == [12, 3, 2]
    assert len(Regulariser().blocks) == 3
    block = ResidualBlock(4)
    kinds = [nn.Conv2d, BatchNorm, nn.PReLU, nn.Conv2d, BatchNorm]
    assert [type(layer) for layer in block.body] == kinds
    assert [type(layer) for layer in ResidualBlock(4, "none").body][1::3] == [nn.Identity, nn.Identity]
    with torch.device("meta"):
        recogniser = CentreFace()
    assert sum(isinstance(layer, nn.Conv2d) for layer in recogniser.modules()) == 27
    assert all(layer.padding == (1, 1) for layer in recogniser.modules() if isinstance(layer, nn.Conv2d))


# --- shapes ----------------------------------------------------------------------------------------------


def test_two_upsamplers_not_three(lr: Tensor) -> None:
    """Doubling after each of the three groups would give x8."""
    network = SuperResolver(width=4, blocks=(1, 1, 1), output="tanh")
    assert sum(isinstance(layer, Upsampler) for layer in network.modules()) == 2
    assert network(lr).shape[-1] == 4 * lr.shape[-1]
    wrong = nn.Sequential(
        *(nn.Conv2d(3, 4, 9, padding=4), *(nn.Sequential(ResidualGroup(4, 1), Upsampler(4)) for _ in range(3))),
        nn.Conv2d(4, 3, 9, padding=4),
    )
    assert wrong(lr).shape[-1] == 8 * lr.shape[-1]


def test_heads_give_logits_and_embeddings() -> None:
    faces = to_tensor(smooth_images(2, 0))
    assert Discriminator(64, width=4)(faces).shape == (2,)
    assert Discriminator(16, width=4)(faces[:, :, :16, :16]).shape == (2,)
    features = CentreFace(width=0.0625, embedding=8)(faces)
    assert features.shape == (2, 8)
    assert FeatureDiscriminator(8, (8, 8, 4, 4))(features).shape == (2,)


# --- where training starts -------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["bn", "none"])
def test_residual_output_starts_as_identity_or_bicubic(lr: Tensor, norm: str) -> None:
    assert torch.equal(Regulariser(width=4, norm=norm)(lr), lr)  # type: ignore[arg-type]
    assert torch.equal(SuperResolver(width=4, blocks=(1, 1, 1), norm=norm, output="residual")(lr), up(lr))  # type: ignore[arg-type]


def test_residual_output_learns_from_the_start(lr: Tensor) -> None:
    """The zero-initialised layer gets gradients although it returns zeros."""
    network = Regulariser(width=4, norm="none")
    network(lr).square().mean().backward()
    assert network.tail.weight.grad is not None
    assert network.tail.weight.grad.abs().sum() > 0


def test_residual_output_is_not_squashed_and_tanh_is() -> None:
    bright = torch.full((1, 3, 16, 16), 1.5)
    assert Regulariser(width=4)(bright).max() == 1.5
    assert Regulariser(width=4, output="tanh")(bright).abs().max() < 1


def test_regulariser_sees_the_whole_face(lr: Tensor) -> None:
    """Receptive field 17x17 with three blocks: the centre is reached from eight pixels away, not from nine."""
    network = Regulariser(width=4, norm="none", output="tanh").double()
    x = torch.zeros(1, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x)[0, :, 16, 16].sum(), x)
    reached = gradient.abs().sum(dim=(0, 1)).nonzero()
    assert reached.min(dim=0).values.tolist() == [8, 8]
    assert reached.max(dim=0).values.tolist() == [24, 24]


# --- discriminators --------------------------------------------------------------------------------------


def sides_after_blocks(network: Discriminator, size: int) -> list[int]:
    sides, x = [], torch.zeros(1, 3, size, size)
    for block in network.blocks:
        x = block(x)
        sides.append(x.shape[-1])
    return sides


def test_late_layout_pools_as_published() -> None:
    assert sides_after_blocks(Discriminator(16, 4, "late"), 16) == [16, 16, 16, 16, 8, 4]
    assert sides_after_blocks(Discriminator(64, 4, "late"), 64) == [64, 64, 32, 16, 8, 4]
    assert sides_after_blocks(Discriminator(16, 4, "early"), 16) == [16, 8, 8, 4, 4, 4]
    assert sides_after_blocks(Discriminator(64, 4, "early"), 64) == [32, 16, 8, 4, 4, 4]
    assert POOLED["late", 16] == (5, 6)


def test_discriminators_have_no_batch_norm() -> None:
    """A discriminator's verdict on a face does not depend on the other faces of its batch."""
    judge = Discriminator(16, 4).train()
    x = to_tensor(smooth_images(3, 0, size=16))
    judge.eval()  # spectral norm moves its vectors in train mode only
    torch.testing.assert_close(judge(x)[:1], judge(x[:1]))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in judge.modules())


def test_spectral_norm_bounds_every_layer() -> None:
    torch.manual_seed(0)
    judge = Discriminator(16, 4, spectral_norm=True)
    with torch.no_grad():
        for name, parameter in judge.named_parameters():
            if name.endswith("original"):
                parameter.mul_(50)
    x = to_tensor(smooth_images(2, 0, size=16))
    for _ in range(100):
        judge(x)
    judge.eval()
    layers = [layer for layer in judge.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 14  # 6 x 2 convolutions, the 1x1 skip of block 1, the linear layer
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)
    assert sum(isinstance(layer, nn.Linear) for layer in FeatureDiscriminator().modules()) == 5


def test_first_block_has_no_leading_relu() -> None:
    """Otherwise the dark half of every image would be invisible to the first convolution."""
    torch.manual_seed(0)
    first, later = DiscriminatorBlock(3, 4, pool=False, first=True), DiscriminatorBlock(3, 4, pool=False)
    later.load_state_dict(first.state_dict())
    dark, darker = torch.full((1, 3, 4, 4), -0.2), torch.full((1, 3, 4, 4), -0.9)
    bodies = [[block(x) - block.skip(x) for x in (dark, darker)] for block in (first, later)]
    assert not torch.allclose(*bodies[0])
    torch.testing.assert_close(*bodies[1])


def test_feature_discriminator_ignores_the_length_of_features() -> None:
    features = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    unit, raw = (FeatureDiscriminator(8, (8, 4), input=kind).eval() for kind in ("l2", "raw"))  # type: ignore[arg-type]
    torch.testing.assert_close(unit(features), unit(1000 * features))
    assert not torch.allclose(raw(features), raw(1000 * features))
    raw.load_state_dict(unit.state_dict())  # l2 is raw on features of length sqrt(8)
    torch.testing.assert_close(unit(features), raw(features / features.norm(dim=1, keepdim=True) * 8**0.5))
    assert torch.isfinite(unit(torch.zeros(1, 8))).all()


def test_batch_norm_is_torchs_in_one_process() -> None:
    ours, torchs = BatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), torchs(x))
    torch.testing.assert_close(ours.running_var, torchs.running_var)
    wanted = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    torch.testing.assert_close(ours(x), wanted)


def test_centreface_starts_alive() -> None:
    """Without batch norm, features must neither vanish nor explode over 27 layers."""
    torch.manual_seed(0)
    features = CentreFace(width=0.25, embedding=128)(to_tensor(smooth_images(2, 0)))
    assert 1e-4 < features.std().item() < 1e2
    assert not torch.allclose(F.normalize(features[0], dim=0), F.normalize(features[1], dim=0))
