"""CycleGAN: the published networks, its three losses and whom they reach, and what its discriminators remember."""

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charreg.core.faces import Pixels
from charreg.core.params import Params
from charreg.core.resampling import resize_image, up
from charreg.core.seeding import torch_seed
from charreg.peers.base import PeerInputs
from charreg.peers.cyclegan import (
    ImageHistory,
    PatchDiscriminator,
    TrainCyclegan,
    TranslatingSuperResolver,
    Translator,
    colour_shift,
    l_d,
    l_gan,
    verdicts,
)
from charreg.training import signals
from charreg.training.job import GAN_BETAS
from charreg.training.loop import Training
from conftest import Recorder, count, graph_of, smooth_images

CPU, META = torch.device("cpu"), torch.device("meta")  # on meta nothing is allocated
Make = Callable[..., Params]
Build = Callable[..., TrainCyclegan]
SMALL = {
    "iterations": 8,
    "batch": 2,
    "width": 4,
    "blocks": 1,
    "d_width": 2,
    "history": 3,
    "lr": 2e-3,
    "ema": 0.0,
}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """What a test draws for itself is the same in every run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def build(inputs: PeerInputs, make_params: Make) -> Build:
    """A small job with changed options: `build(1, history=0)`; `on` are other inputs."""

    def build(seed: int = 0, on: PeerInputs = inputs, device: torch.device = CPU, **options: Any) -> TrainCyclegan:
        changes = {f"peers.cyclegan.{key}": value for key, value in {**SMALL, **options}.items()}
        return TrainCyclegan(make_params(changes, seed=seed), on, device)

    return build


def parts(job: TrainCyclegan) -> dict[str, nn.Module]:
    return {"f_xy": job.f_xy, "f_yx": job.f_yx, "d_x": job.d_x, "d_y": job.d_y}


def gradients(loss: Tensor, *networks: nn.Module) -> list[Tensor]:
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return list(torch.autograd.grad(loss, parameters, retain_graph=True))


# --- the networks ----------------------------------------------------------------------------------------


def test_the_job_trains_the_published_21_million(build: Build) -> None:
    """The histories are no parameters."""
    with META:
        job = build(device=META, width=64, blocks=6, d_width=64, history=50)
    assert sum(map(count, job.networks.values())) == sum(map(count, parts(job).values())) == 21_204_872


def test_a_score_is_that_of_a_patch() -> None:
    network = PatchDiscriminator(2)
    plain = nn.Sequential(*(layer for layer in network if not isinstance(layer, nn.InstanceNorm2d))).double()
    x = torch.rand(1, 3, 160, 160, dtype=torch.float64, requires_grad=True)
    scores = plain(x)
    middle = scores.shape[-1] // 2
    (gradient,) = torch.autograd.grad(scores[0, 0, middle, middle], x)
    reached = gradient[0].abs().sum(dim=0).nonzero()
    assert (reached.max(dim=0).values - reached.min(dim=0).values + 1).tolist() == [70, 70]


def test_weights_start_small_and_biases_at_zero() -> None:
    for network in (Translator(16), PatchDiscriminator(16)):
        values = torch.cat([value.flatten() for name, value in network.named_parameters() if name.endswith("weight")])
        assert values.std().item() == pytest.approx(0.02, rel=0.02)
        assert abs(values.mean().item()) < 1e-3
        assert not any(value.any() for name, value in network.named_parameters() if name.endswith("bias"))


def test_images_of_a_batch_do_not_meet() -> None:
    """So real and generated ones may share a pass; with batch norm, the trap, they must not."""
    x, y = (torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1).chunk(2)
    for network in (Translator(4, 1), PatchDiscriminator(4)):
        torch.testing.assert_close(network(torch.cat([x, y / 4])), torch.cat([network(x), network(y / 4)]))
        for place, layer in enumerate(network):
            if isinstance(layer, nn.InstanceNorm2d):
                network[place] = nn.BatchNorm2d(layer.num_features)
        apart = torch.cat([network(x), network(y / 4)])
        assert not torch.allclose(network(torch.cat([x, y / 4])), apart, atol=1e-2)


def test_the_super_resolver_translates_what_bicubic_enlarges() -> None:
    network, G = TranslatingSuperResolver(4, 1), torch.rand(2, 3, 16, 16) * 2 - 1
    assert network(G).shape == (2, 3, 64, 64)
    assert torch.equal(network(G), network.translator(up(G)))


# --- the losses ------------------------------------------------------------------------------------------


def test_losses_are_least_squares_and_the_discriminators_halved() -> None:
    real, fake = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 2.0]])
    assert l_d(real, fake).item() == 2  # half of (0 + 4) / 2 + (0 + 4) / 2
    assert l_gan(fake).item() == 1  # (1 + 1) / 2, not halved
    assert l_d(torch.ones(2, 1, 6, 6), torch.zeros(2, 1, 6, 6)) == 0
    not_halved = (real - 1).square().mean() + fake.square().mean()
    swapped = l_d(fake, real)
    logits = (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
    assert not {round(wrong.item(), 3) for wrong in (not_halved, swapped, logits)} & {2.0}


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("in_double")
def test_a_step_is_the_published_loss(build: Build) -> None:
    """Every term written out, its gradients too; the fakes of a cycle are not detached."""
    job = build(history=0, cycle_weight=7.0, identity_weight=0.3)
    x, y = up(job.genuine.batch(3)), job.pairs.batch(3)[1]
    fake_y, fake_x = job.f_xy(x), job.f_yx(y)
    wanted = {
        "l_gan": (job.d_y(fake_y) - 1).square().mean() + (job.d_x(fake_x) - 1).square().mean(),
        "l_cycle": (job.f_yx(fake_y) - x).abs().mean() + (job.f_xy(fake_x) - y).abs().mean(),
        "l_identity": (job.f_xy(y) - y).abs().mean() + (job.f_yx(x) - x).abs().mean(),
        "l_d_x": ((job.d_x(x) - 1).square().mean() + job.d_x(fake_x).square().mean()) / 2,
        "l_d_y": ((job.d_y(y) - 1).square().mean() + job.d_y(fake_y).square().mean()) / 2,
    }
    losses, totals = graph_of(job, 3)
    assert [*losses] == [*wanted]
    for name, value in wanted.items():
        torch.testing.assert_close(losses[name], value)
    total = wanted["l_gan"] + 7 * (wanted["l_cycle"] + 0.3 * wanted["l_identity"])
    torch.testing.assert_close(totals, {"translators": total, "judges": wanted["l_d_x"] + wanted["l_d_y"]})

    found = gradients(totals["translators"], job.f_xy, job.f_yx)
    torch.testing.assert_close(found, gradients(total, job.f_xy, job.f_yx))
    detached = F.l1_loss(job.f_yx(fake_y.detach()), x) + F.l1_loss(job.f_xy(fake_x.detach()), y)
    trap = gradients(total - 7 * wanted["l_cycle"] + 7 * detached, job.f_xy, job.f_yx)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found, trap)


def test_without_identity_loss_it_is_not_computed(build: Build) -> None:
    job = build(identity_weight=0.0)
    recorder = job.f_xy = Recorder(job.f_xy)  # type: ignore[assignment]
    losses, totals = graph_of(job, 0)
    assert losses["l_identity"] == 0
    assert [len(x) for x in recorder.inputs] == [2, 2]  # x and the cycle, no y
    torch.testing.assert_close(totals["translators"], losses["l_gan"] + 10 * losses["l_cycle"])


# --- the history -----------------------------------------------------------------------------------------


def numbered(numbers: Iterable[int]) -> Tensor:
    """Images that are their numbers."""
    return torch.stack([torch.full((3, 64, 64), float(number)) for number in numbers])


def numbers_of(images: Tensor) -> list[int]:
    return [int(number) for number in images[:, 0, 0, 0]]


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_history_keeps_fifty_then_shows_old_ones_half_the_time() -> None:
    history, generator, old = ImageHistory(), drawn(), 0
    for first in range(0, 50, 10):
        new = numbered(range(first, first + 10))
        assert torch.equal(history.exchange(new, generator), new)
    assert numbers_of(history.images) == [*range(50)]
    for first in range(50, 250, 10):
        before, new = numbers_of(history.images), numbered(range(first, first + 10))
        shown, after = numbers_of(history.exchange(new, generator)), numbers_of(history.images)
        assert numbers_of(new) == [*range(first, first + 10)]
        assert sorted(shown + after) == sorted(before + numbers_of(new))  # nothing is lost, nothing is shown while kept
        old += sum(a != b for a, b in zip(shown, numbers_of(new), strict=True))
    assert 80 < old < 120
    assert (history.images == history.images[:, :1, :1, :1]).all()  # whole images


def test_the_history_fills_up_within_a_batch() -> None:
    history = ImageHistory(3)
    shown = numbers_of(history.exchange(numbered(range(8)), drawn()))
    assert shown[:3] == [0, 1, 2]
    assert int(history.filled) == 3
    assert sorted(shown + numbers_of(history.images)) == sorted([0, 1, 2, *range(8)])  # the first were shown AND kept


def test_a_history_of_none_is_off() -> None:
    new = numbered([1, 2])
    history = ImageHistory(0)
    assert history.exchange(new, drawn()) is new
    assert not history.filled


def exchanges(history: ImageHistory, first: int, seed: int) -> list[int]:
    generator = drawn(seed)
    batches = [numbered(range(start, start + 4)) for start in range(first, first + 20, 4)]
    return [number for new in batches for number in numbers_of(history.exchange(new, generator))]


def test_an_exchange_is_a_function_of_the_generator() -> None:
    shown = [exchanges(ImageHistory(3), 0, seed) for seed in (0, 0, 1)]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert exchanges(ImageHistory(3), 0, 0) == shown[0] == shown[1] != shown[2]
    assert torch.equal(torch.get_rng_state(), state)  # the global one is left alone


def test_discriminators_see_the_history_and_translators_the_newest(build: Build) -> None:
    job = build(batch=4, history=2)
    for name in ("x", "y"):
        job.remembered(name, numbered([0, 0]) / 2, 0)  # grey
    x, y = up(job.genuine.batch(1)), job.pairs.batch(1)[1]
    newest = {"x": job.f_yx(y).detach(), "y": job.f_xy(x).detach()}
    twins = {name: deepcopy(job.histories[name]) for name in "xy"}
    recorders = {"x": Recorder(job.d_x), "y": Recorder(job.d_y)}
    job.d_x, job.d_y = recorders["x"], recorders["y"]
    graph_of(job, 1)
    for name, real in (("x", x), ("y", y)):
        fooled, judged = (x.detach() for x in recorders[name].inputs)
        torch.testing.assert_close(fooled, newest[name])
        twin = twins[name]
        assert isinstance(twin, ImageHistory)
        shown = twin.exchange(fooled, drawn(torch_seed(0, "cyclegan", "history", name, 1)))
        assert torch.equal(judged, torch.cat([real, shown]))
        assert not torch.equal(shown, fooled)
        assert torch.equal(twin.images, job.histories[name].images)  # type: ignore[arg-type]


# --- optimisers and rates --------------------------------------------------------------------------------


def test_options_are_the_published_ones(make_params: Make) -> None:
    options: Any = make_params().peers["cyclegan"]
    assert (options.lr, options.blocks, options.history) == (2e-4, 6, 50)
    assert (options.cycle_weight, options.identity_weight) == (10, 0.5)


def test_rates_fall_to_zero_on_a_line_over_the_last_half(build: Build) -> None:
    job = build(iterations=100)
    assert {job.rate(step) for step in range(51)} == {1.0}
    assert [job.rate(step) for step in (60, 75, 90, 99)] == pytest.approx([0.8, 0.5, 0.2, 0.02])
    training, rates = Training(build(iterations=4)), []
    while training.done < 4:
        training.advance()
        rates.append(
            [group["lr"] for optimiser in training.job.optimisers.values() for group in optimiser.param_groups]
        )
    assert rates == [[2e-3, 2e-3]] * 3 + [[1e-3, 1e-3]]


# --- it learns -------------------------------------------------------------------------------------------


def pictures_of(inputs: PeerInputs, hr: Pixels, genuine: Pixels) -> PeerInputs:
    """Eight HR and eight genuine pictures; these come at 64x64, too."""
    small = [np.stack([resize_image(image, 16) for image in images]) for images in (hr, genuine)]
    faces = replace(inputs.hr, images=hr, lr=small[0]), replace(inputs.genuine, images=small[1])
    return PeerInputs(*faces, inputs.recogniser)


def evened(images: Pixels, mean: float, deviation: float) -> Pixels:
    """Colours as instance norm, which takes them away, need not find out."""
    x = images.astype(np.float64)
    x = (x - x.mean(axis=(1, 2), keepdims=True)) / x.std(axis=(1, 2), keepdims=True)
    even: Pixels = np.clip(x * deviation + mean, 0, 255).round().astype(np.uint8)
    return even


def test_it_learns_eight_pictures_of_each_side_by_heart(build: Build, inputs: PeerInputs) -> None:
    """By its own losses, as nothing is paired; and better than one picture for all would do."""
    hr, genuine = smooth_images(16, 0, cells=4).reshape(2, 8, 64, 64, 3)
    on = pictures_of(inputs, evened(hr, 128, 45), evened(genuine, 100, 30))
    job = build(on=on, iterations=40, batch=4, width=8, d_width=4)
    training, found = Training(job), []
    for _ in range(2):
        with torch.no_grad():
            health = job.health(job.networks)
        found.append({key: health[f"{key}_x"] + health[f"{key}_y"] for key in ("cycle", "identity")})
        while training.done < job.iterations:
            training.advance()
    before, after = found
    x, y = up(job.genuine.sample(8)), job.pairs.sample(8)[1]
    constant = sum(F.l1_loss(z.mean(dim=0, keepdim=True).expand_as(z), z).item() for z in (x, y))
    for key, value in after.items():
        assert value < 0.35 * before[key]
        assert value < 0.6 * constant


def tint(job: TrainCyclegan) -> None:
    """Translators that can do nothing but mix colours, from chance."""
    for name in ("f_xy", "f_yx"):
        mix = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            mix.weight.copy_(0.02 * torch.randn(mix.weight.shape, generator=drawn(torch_seed(job.seed, name))))
            mix.bias.zero_()  # type: ignore[union-attr]
        setattr(job, name, mix)
    job.networks["super_resolver"].translator, job.networks["back_translator"] = job.f_xy, job.f_yx
    job.add_adam("translators", [job.f_xy, job.f_yx], job.options.lr, GAN_BETAS)


def test_without_identity_loss_colours_drift(build: Build, inputs: PeerInputs) -> None:
    """Both sides are coloured alike, so no colour should move; cycles are as good when all of them do."""
    on, found = pictures_of(inputs, *smooth_images(16, 0, cells=4).reshape(2, 8, 64, 64, 3)), []
    for weight in (0.5, 0.0):
        job = build(on=on, iterations=100, lr=0.03, identity_weight=weight)
        tint(job)
        training = Training(job)
        while training.done < job.iterations:
            training.advance()
        with torch.no_grad():
            found.append(job.health(job.networks))
    kept, drifted = found
    assert max(health[f"cycle_{side}"] for health in found for side in "xy") < 0.02
    assert kept["colour_shift"] < 0.01
    assert drifted["colour_shift"] > 0.04
    assert drifted["identity_y"] > 0.1 > 3 * kept["identity_y"]


def test_no_two_networks_start_alike(build: Build) -> None:
    job = build()
    for one, other in ((job.f_xy, job.f_yx), (job.d_x, job.d_y)):
        assert not torch.equal(next(one.parameters()), next(other.parameters()))


# --- what it exports and signals -------------------------------------------------------------------------


def test_verdicts_part_at_one_half() -> None:
    """Least squares aims at 0 and 1; parted at 0, as logits are, every generated image would pass for real."""
    real, fake = torch.tensor([0.6, 0.9]), torch.tensor([0.1, 0.7])
    assert verdicts(real, fake, "d") == pytest.approx({"d_real": 0.75, "d_fake": 0.4, "d_accuracy": 0.75})
    assert signals.verdicts(real, fake, "d")["d_accuracy"] == 0.5


def test_colour_shift_is_that_of_mean_colours() -> None:
    before = torch.rand(2, 3, 8, 8)
    after = before.clone()
    after[0, 1] += 0.6
    assert colour_shift(before, after) == pytest.approx(0.1)  # one of six means
    assert colour_shift(before, before.flip(-1)) == pytest.approx(0, abs=1e-6)
    opposite = before + torch.tensor([0.5, -0.5])[:, None, None, None]
    assert colour_shift(before, opposite) == pytest.approx(0.5)  # shifts do not cancel
