"""VDSR: the published layers, its residual and its loss."""

import torch
from torch import nn

from charreg.core.resampling import up
from charreg.networks.deep_residual import Vdsr
from charreg.peers.base import PeerInputs
from charreg.peers.vdsr import TrainVdsr
from conftest import build_peer, graph_of, rouse


def test_twenty_convolutions_and_a_relu_between_two() -> None:
    assert [type(layer) for layer in Vdsr().body] == [nn.Conv2d, nn.ReLU] * 19 + [nn.Conv2d]


def test_the_output_is_bicubic_plus_a_residual_of_bicubic() -> None:
    network, A = rouse(Vdsr(4, 5)), torch.rand(2, 3, 16, 16) * 2 - 1
    assert isinstance(network, Vdsr)
    torch.testing.assert_close(network(A), up(A) + network.body(up(A)))
    assert not torch.allclose(network(A), up(A), atol=1e-2)


def test_the_loss_is_half_the_mean_squared_error(inputs: PeerInputs) -> None:
    job = build_peer(TrainVdsr, {"batch": 8, "width": 8, "depth": 4}, inputs)
    rouse(job.network)
    A, H = job.pairs.batch(3)
    losses, descended = graph_of(job, 3)
    error = (job.network(A) - H).square().mean()
    torch.testing.assert_close(losses["l_sr"], error, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(descended["vdsr"], error / 2, rtol=1e-4, atol=1e-6)
