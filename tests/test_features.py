"""Feature networks: the same features as the libraries they come from, and no weight file that is not the right one."""

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charreg.core.errors import CharregError
from charreg.core.params import Params
from charreg.core.weight_files import read_weights
from charreg.metrics import features as module
from charreg.metrics.features import (
    FeatureNetwork,
    build_inception,
    load_efficientnet_lite0,
    load_feature_network,
    load_inception,
)
from charreg.metrics.frechet import Gaussian, frechet_distance

Array = np.ndarray[Any, Any]
CPU = torch.device("cpu")


def faces(n: int, size: int = 64, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def lite0() -> FeatureNetwork:
    return load_efficientnet_lite0(64, CPU)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Random weights of the FID Inception, with lively batch norms, and their SHA-256."""
    network = build_inception()
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            fan = value[0].numel() if value.ndim > 1 else 1
            noise = torch.randn(value.shape, generator=generator) * (2 / fan) ** 0.5
            value.copy_(noise.abs() * 0.1 + 0.9 if name.endswith(("running_var", "bn.weight")) else noise)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


# --- EfficientNet-Lite0 ----------------------------------------------------------------------------------


def test_embedded_features_are_timms(lite0: FeatureNetwork) -> None:
    """Preprocessing written out, timm's own pooling, the package's own file."""
    from timm import create_model

    tensors = torch.load(Path(module.importlib.util.find_spec(module.LITE0_PACKAGE).origin).parent / module.LITE0_FILE)
    network = create_model("efficientnet_lite0", pretrained=False, num_classes=0).eval()
    names = list(network.state_dict())
    network.load_state_dict(dict(zip(names, tensors.values(), strict=False)))
    images = faces(3, 16)
    x = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    x = torch.nn.functional.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        wanted = network(x).numpy()
    found = lite0.extract(images, batch=3)
    assert found.shape == (3, 1280)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_weights_know_imagenet() -> None:
    """A cat is a cat: the entries went to the right layers."""
    from skimage.data import chelsea
    from timm.models.efficientnet import efficientnet_lite0

    network = load_efficientnet_lite0(224, CPU)
    classifier = efficientnet_lite0(pretrained=False)
    path = Path(module.importlib.util.find_spec(module.LITE0_PACKAGE).origin).parent / module.LITE0_FILE
    tensors = list(read_weights(path, module.LITE0_SHA256, "").values())
    with torch.inference_mode():
        classifier.classifier.weight.copy_(tensors[-2])
        classifier.classifier.bias.copy_(tensors[-1])
        features = torch.from_numpy(network.extract(chelsea()[None, :, 75:375], batch=1))
        classes = classifier.classifier(features)[0].topk(3).indices
    assert set(classes.tolist()) <= {281, 282, 283, 285}  # tabby, tiger cat, Persian cat, Egyptian cat


def test_features_do_not_depend_on_the_batch_size(lite0: FeatureNetwork) -> None:
    images = faces(7)
    whole = lite0.extract(images, batch=7)
    for batch in (1, 3, 64):
        np.testing.assert_allclose(lite0.extract(images, batch), whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(lite0.extract(images, batch=3), lite0.extract(images, batch=3))


def test_memory_maps_and_empty_sets_are_read_and_features_lie_in_a_file_without_a_name(
    lite0: FeatureNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their memory is the file's; nothing is left where the temporary folder is, whatever happens to the process."""
    images = faces(3)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")  # a read-only array must not reach torch: it warns
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    features = lite0.extract(mapped, batch=2)
    np.testing.assert_array_equal(features, lite0.extract(images, batch=2))
    assert isinstance(features.base, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]
    assert lite0.extract(images[:0], batch=2).shape == (0, 1280)


@pytest.mark.parametrize(
    "images", [faces(2).astype(np.float32), faces(2).transpose(0, 3, 1, 2), faces(2)[..., :1], faces(2)[0]]
)
def test_what_is_not_uint8_rgb_is_refused(lite0: FeatureNetwork, images: Array) -> None:
    with pytest.raises(CharregError, match="wanted uint8"):
        lite0.extract(images, batch=2)


def test_another_lite0_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LITE0_SHA256", "0" * 64)
    with pytest.raises(CharregError, match="sha256 579344248a93 differs from 000000000000"):
        load_efficientnet_lite0(64, CPU)


# --- Inception -------------------------------------------------------------------------------------------


def test_inception_is_pytorch_fids(inception_file: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights in pytorch_fid's own class; and the old mistakes give other features."""
    from pytorch_fid import inception as fid

    path, sha256 = inception_file
    tensors = torch.load(path, weights_only=True)
    monkeypatch.setattr(fid, "load_state_dict_from_url", lambda *_, **__: tensors)
    theirs = fid.InceptionV3().eval()
    ours = load_inception(path, sha256, CPU)
    assert ours.distances == ("fid", "kid")
    images = faces(2, seed=3)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        wanted = theirs(x)[0].flatten(1).numpy()
        found = ours.extract(images, batch=2)
        scale = np.abs(wanted).max()
        assert found.shape == (2, 2048)
        assert wanted.std(axis=0).max() > 1e-3 * scale  # the random network does look at the image
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * scale)

        corners = torch.nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=True)
        assert np.abs(ours.module(2 * corners - 1).numpy() - wanted).max() > 1e-3 * scale
        assert np.abs(ours.module(ours.prepare(images) * 0.5 + 0.5).numpy() - wanted).max() > 1e-3 * scale
        small = torch.nn.functional.interpolate(x, size=(32, 32), mode="bilinear", antialias=True)
        assert np.abs(theirs(small)[0].flatten(1).numpy() - wanted).max() > 1e-3 * scale  # resized before

        from torchvision.models import inception_v3  # padded zeros in its average pools

        plain = inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False).eval()
        plain.load_state_dict(tensors)
        plain.fc = torch.nn.Identity()
        assert np.abs(plain(ours.prepare(images)).numpy() - wanted).max() > 1e-3 * scale


def test_the_distance_is_pytorch_fids_from_the_same_files(
    inception_file: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PNG files and pytorch_fid's own functions against memory-mapped arrays and ours, to 1e-4 of the distance."""
    from PIL import Image
    from pytorch_fid import fid_score
    from pytorch_fid import inception as fid

    path, sha256 = inception_file
    monkeypatch.setattr(fid, "load_state_dict_from_url", lambda *_, **__: torch.load(path, weights_only=True))
    theirs, ours = fid.InceptionV3([3]).eval(), load_inception(path, sha256, CPU)
    gaussians, statistics = [], []
    for seed in (1, 2):
        images = faces(3, seed=seed) // (1 + seed)
        files = [tmp_path / f"{seed}-{i}.png" for i in range(len(images))]
        for file, image in zip(files, images, strict=True):
            Image.fromarray(image).save(file)
        wanted = fid_score.get_activations(files, theirs, 3, 2048, CPU, 0)
        found = ours.extract(images, batch=2)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
        gaussians.append(Gaussian.of(found))
        statistics.append((wanted.mean(axis=0), wanted - wanted.mean(axis=0)))
    # Two covariances of rank 2 in 2,048 dimensions share their roots with those of a basis of both.
    basis = np.linalg.qr(np.concatenate([each for _, each in statistics]).T.astype(np.float64))[0]
    covariances = [np.cov(deviations @ basis, rowvar=False) for _, deviations in statistics]
    shift = statistics[0][0] - statistics[1][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy on singular products
        spread = fid_score.calculate_frechet_distance(np.zeros(6), covariances[0], np.zeros(6), covariances[1])
    assert frechet_distance(*gaussians) == pytest.approx(float(shift @ shift + spread), rel=1e-4)


def test_preparing_large_images_takes_no_antialias() -> None:
    """pytorch_fid shrinks without; with antialias (as torchvision and Pillow do) the input differs."""
    network = FeatureNetwork("inception", torch.nn.Identity(), 3, 299, (0.5,) * 3, (0.5,) * 3, CPU, "")
    images = faces(1, 600)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    wanted = torch.nn.functional.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network.prepare(images), 2 * wanted - 1, rtol=0, atol=1e-6)
    wrong = torch.nn.functional.interpolate(x, size=(299, 299), mode="bilinear", antialias=True)
    assert (network.prepare(images) - (2 * wrong - 1)).abs().max() > 0.1


def test_inception_is_chosen_by_the_params(inception_file: tuple[Path, str], make_params: Any) -> None:
    path, sha256 = inception_file
    changes = {"evaluate.features": "inception", "evaluate.weights": str(path), "evaluate.sha256": sha256}
    params: Params = make_params(changes)
    assert load_feature_network(params.evaluate, CPU).name == "inception"
    params = make_params({"evaluate.features": "inception"})
    remedy = r"run charreg fetch-weights inception and set evaluate\.weights to the path it prints"
    with pytest.raises(CharregError, match=f"evaluate.weights: empty.*{remedy}"):
        load_feature_network(params.evaluate, CPU)
    params = make_params({**changes, "evaluate.weights": "/nowhere/weights.pth"})
    with pytest.raises(CharregError, match=f"/nowhere/weights.pth: No such file.*{remedy}"):
        load_feature_network(params.evaluate, CPU)


# --- weight files ----------------------------------------------------------------------------------------


class Bomb:
    """A pickle that writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("save", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb))])
def test_a_pickle_payload_is_refused_and_not_executed(save: Any, tmp_path: Path) -> None:
    """Even when its SHA-256 is the wanted one."""
    mark, path = tmp_path / "executed", tmp_path / "weights.pth"
    save({"conv.weight": Bomb(mark)}, path)
    with pytest.raises(CharregError, match="not a file of plain tensors, refused"):
        load_inception(path, hashlib.sha256(path.read_bytes()).hexdigest(), CPU)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))  # what it would have done
    assert mark.exists()


def test_a_wrong_hash_is_refused_before_opening(
    inception_file: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(torch, "load", never)
    with pytest.raises(CharregError, match=r"inception.pth: sha256 \w{12} differs from 6726825d0af5"):
        load_inception(inception_file[0], "6726825d0af5" + "0" * 52, CPU)
    flipped = bytearray(inception_file[0].read_bytes())
    flipped[len(flipped) // 2] ^= 1
    (tmp_path / "flipped.pth").write_bytes(flipped)
    with pytest.raises(CharregError, match="differs from"):
        load_inception(tmp_path / "flipped.pth", inception_file[1], CPU)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "refused"),
        (b"not weights at all", "refused"),
        ([1, 2], "found list, wanted tensors by name"),
        ({"a": 1}, "wanted tensors by name"),
        ({"fc.weight": torch.zeros(2)}, "weights of another network"),
    ],
)
def test_other_files_are_refused_in_one_line(content: Any, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CharregError, match=fault) as caught:
        load_inception(path, hashlib.sha256(path.read_bytes()).hexdigest(), CPU)
    assert "\n" not in str(caught.value)
