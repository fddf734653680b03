"""Data order and flips as functions of (seed, step)."""

import numpy as np
import pytest
import torch

from charreg.core.faces import FaceSet
from charreg.core.resampling import resize_image
from charreg.core.seeding import torch_seed
from charreg.core.tensors import to_images, to_tensor
from charreg.training import augment as stabilisers
from charreg.training import batches
from charreg.training.augment import Augment
from charreg.training.batches import Genuine, Pairs, Stream, take
from conftest import draw_face

CPU = torch.device("cpu")


def test_order_is_a_function_of_seed_and_step() -> None:
    forwards = [Stream(7, 4, 0, "pairs").indices(step).tolist() for step in range(9)]
    one = Stream(7, 4, 0, "pairs")
    backwards = [one.indices(step).tolist() for step in reversed(range(9))][::-1]  # no state to move along
    assert forwards == backwards
    assert forwards != [Stream(7, 4, 1, "pairs").indices(step).tolist() for step in range(9)]
    assert forwards != [Stream(7, 4, 0, "genuine").indices(step).tolist() for step in range(9)]


def test_the_order_is_the_same_on_every_machine() -> None:
    """Stored numbers: another NumPy has to give them too, or runs stop being comparable."""
    assert Stream(7, 7, 0, "pairs").indices(0).tolist() == [5, 3, 1, 0, 6, 4, 2]
    assert Stream(7, 4, 0, "pairs").flips(0).tolist() == [False, True, False, True]
    assert torch_seed(0, "a") == 2956465640486668434


@pytest.mark.parametrize(("count", "batch"), [(7, 4), (16, 4), (3, 8), (1, 4)])
def test_every_item_once_an_epoch(count: int, batch: int) -> None:
    """Also when epochs end inside a batch, and when a batch holds several epochs."""
    stream = Stream(count, batch, 0, "pairs")
    walk = np.concatenate([stream.indices(step) for step in range(count * 3)])
    epochs = walk[: len(walk) // count * count].reshape(-1, count)
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs.tolist())
    if count > 3:
        assert len({tuple(epoch) for epoch in epochs.tolist()}) > 1  # shuffled anew


def test_flips_are_a_function_of_seed_and_step() -> None:
    stream = Stream(7, 4000, 0, "pairs")
    assert np.array_equal(stream.flips(3), Stream(7, 4000, 0, "pairs").flips(3))
    assert not np.array_equal(stream.flips(3), stream.flips(4))
    assert stream.flips(3).mean() == pytest.approx(0.5, abs=0.03)


def test_both_faces_of_a_pair_are_flipped_alike(hr_faces: FaceSet) -> None:
    pairs = Pairs(hr_faces, 16, 0, CPU)
    stream = pairs.stream
    flips = stream.flips(0)
    assert 0 < flips.sum() < 16
    A, H = (to_images(x) for x in pairs.batch(0))
    assert hr_faces.lr is not None
    for position, (index, flip) in enumerate(zip(stream.indices(0), flips, strict=True)):
        side = slice(None, None, -1 if flip else 1)
        assert np.array_equal(H[position], hr_faces.images[index][:, side])
        assert np.array_equal(A[position], hr_faces.lr[index][:, side])
    levels = np.abs(A.astype(int) - np.stack([resize_image(image, 16) for image in H]).astype(int))
    assert levels.max() <= 1  # A = DS(H), flipped or not; with a flip of H alone it would not be
    wrong = np.abs(A[:, :, ::-1].astype(int) - np.stack([resize_image(image, 16) for image in H]).astype(int))
    assert wrong.max() > 20


def test_samples_are_fixed_and_unflipped(hr_faces: FaceSet, genuine_faces: FaceSet) -> None:
    A, H = Pairs(hr_faces, 4, 0, CPU).sample(5)
    again_A, again_H = Pairs(hr_faces, 8, 0, CPU).sample(5)
    assert torch.equal(A, again_A)
    assert torch.equal(H, again_H)
    assert {image.tobytes() for image in to_images(H)} <= {np.asarray(image).tobytes() for image in hr_faces.images}
    assert Genuine(genuine_faces, 4, 0, CPU).sample(100).shape == (16, 3, 16, 16)  # never more than there are


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_shares_of_the_processes_make_up_the_global_batch(
    processes: int, hr_faces: FaceSet, genuine_faces: FaceSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, genuine = Pairs(hr_faces, 8, 0, CPU), Genuine(genuine_faces, 8, 0, CPU)
    blind = Augment(True, 0, "job")
    A, H = pairs.batch(3)
    G = genuine.batch(3)
    shown = blind(A, 3, "A")
    parts = []
    for rank in range(processes):
        for module in (batches, stabilisers):
            monkeypatch.setattr(module, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(module, "world_size", lambda: processes)
        mine = pairs.batch(3)
        assert torch.equal(pairs.artificial(3), mine[0])
        parts.append((*mine, genuine.batch(3), blind(mine[0], 3, "A")))
        assert len(mine[0]) == 8 // processes
    for whole, pieces in zip((A, H, G, shown), zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-6)


def test_levels_survive_the_round_trip() -> None:
    levels = np.arange(256, dtype=np.uint8)[None, :, None, None].repeat(3, axis=3)
    x = to_tensor(levels)
    assert (x.min().item(), x.max().item()) == (-1, 1)
    assert np.array_equal(to_images(x), levels)


def test_clamping_at_saving_does_not_wrap() -> None:
    x = torch.tensor([-1.5, -1.001, 1.001, 7.0])[None, None, :, None].expand(1, 3, 4, 1)
    assert to_images(x)[0, :, 0, 0].tolist() == [0, 0, 255, 255]
    wrong = ((x + 1) * 127.5).round().to(torch.int64).to(torch.uint8)  # without the clamp: bright becomes dark
    assert wrong[0, 0, 3, 0].item() != 255


def test_take_mirrors_left_and_right_only() -> None:
    face = draw_face(0, 0)[None]
    mirrored = to_images(take(face, np.array([0, 0]), np.array([True, False]), CPU))
    assert np.array_equal(mirrored[0], face[0][:, ::-1])
    assert np.array_equal(mirrored[1], face[0])


def test_seeds_depend_on_every_word() -> None:
    seeds = {torch_seed(*words) for words in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 1), (0,))}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**62 for seed in seeds)
