"""params.yaml: what is refused, in one line that names the key, and what a stage gets to see."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from charreg.core.errors import CharregError, run
from charreg.core.params import Params, read_all_params, read_params, scaled_iterations
from charreg.core.runtime import runtime
from charreg.cr import train_centreface
from conftest import ROOT, toy_content

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Toy params with changes, as a file."""

    def write(changes: dict[str, Any] | None = None, drop: str = "") -> Path:
        content = toy_content(changes)
        if drop:
            *sections, last = drop.split(".")
            inner = content
            for section in sections:
                inner = inner[section]
            del inner[last]
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


def refusal(path: Path) -> str:
    """The message of the refusal, which has to be one line that names the file."""
    with pytest.raises(CharregError) as caught:
        read_all_params(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_the_shipped_file_and_the_toy_file_are_valid(toy_file: Path, toy_params: Params) -> None:
    assert read_all_params(ROOT / "params.yaml").lambda_cr == 0.06
    assert read_all_params(toy_file) == toy_params


def test_shipped_weights_are_the_published_ones() -> None:
    params = read_all_params(ROOT / "params.yaml")
    weights = (params.lambda_gan, params.lambda_cr, params.lambda_cr_sr, params.lambda_cr_gan)
    assert weights == (0.2, 0.06, 0.01, 0.03)
    assert (params.train_centreface.lambda_centre, train_centreface.ALPHA) == (0.003, 0.5)
    assert params.super_resolver.blocks == (12, 3, 2)
    assert params.regulariser.blocks == 3


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("lamda_cr", 0.1, "unknown"),
        ("pretrain_sr.learning_rate", 0.1, "unknown"),
        ("hr_faces.jitter.rol", 1.0, "unknown"),
        ("lambda_cr", "abc", "'abc'"),
        ("pretrain_sr.lr", "fast", "'fast'"),
        ("pretrain_sr.batch", -4, "-4"),
        ("pretrain_sr.batch", 0, "0"),
        ("pretrain_sr.batch", 2.5, "2.5"),
        ("pretrain_sr.ema", 1.0, "1.0"),
        ("pretrain_sr", 3, "3"),
        ("lambda_cr", float("nan"), "nan"),
        ("lambda_cr", float("inf"), "inf"),
        ("lambda_cr", -0.06, "-0.06"),
        ("pretrain_sr.lr", "nan", "'nan'"),
        ("pretrain_sr.lr", "inf", "'inf'"),
        ("epoch_scale", float("inf"), "inf"),
        ("lr_faces.face", [10, float("nan")], "nan"),
        ("super_resolver.norm", "batch", "'batch'"),
        ("super_resolver.blocks", [12, 3], "missing"),
        ("lr_roles.webb", {"source": "folder", "path": "x"}, "webb"),
        ("lambda_cr", None, "None"),
        ("detection.scales", [], "[]"),
        ("feature_discriminator.widths", [], "[]"),
        ("packaged_photos.cameras.web.noise", [9, 3], "the smaller number first"),
        ("packaged_photos.cameras.web.motion", [-1, 3], "-1"),
        ("packaged_photos.cameras.cctv.jpeg", [50, 25], "the smaller number first"),
        ("packaged_photos.cameras.cctv.jpeg", [50, 96], "96"),
        ("packaged_photos.face", [24, 14], "the smaller number first"),
        ("packaged_photos.face", [0, 14], "0"),
        ("lr_faces.face", [26, 10], "the smaller number first"),
        ("lambda_cr", True, "wanted a number"),
        ("seed", True, "wanted a number"),
        ("pretrain_sr.batch", True, "wanted a number"),
        ("pretrain_sr.lr", True, "wanted a number"),
        ("hr_faces.min_score", True, "wanted a number"),
        ("lr_faces.face", [False, 10], "wanted a number"),
        ("hr_roles.test.exclude", "none.txt", "unknown key"),
        ("hr_roles.test.stride", 2, "unknown key"),
        ("hr_roles.train.source", "celebb", "'celebb', wanted 'packaged', 'folder', 'celeba', 'helen' or 'bench'"),
        ("hr_roles.train.split", "train", "found 'train', wanted all for source packaged"),
        ("hr_roles.test.crop", "fixed", "only CelebA's portraits are aligned"),
        ("hr_faces.crop", "aligned", "'aligned'"),
        ("hr_faces.fixed_side", 0, "0"),
        ("lr_roles.web.stride", 5, "found 5, wanted 1 for source packaged"),
        ("lr_roles.web.stride", 0, "0"),
        ("lr_roles.web.boxes", "hand", "'hand'"),
        ("lr_roles.cctv.frames", 5, "unknown key"),
        ("lr_roles.web.exclude", "", "''"),
        ("schedule.batch", 0, "0"),
        ("schedule.iterations", 10, "unknown key"),
        ("peers.vdsr.batch", 0, "0"),
        ("peers.vdsr.ema", "much", "'much'"),
    ],
)
def test_wrong_values_are_refused_by_name(write: Write, key: str, value: Any, named: str) -> None:
    message = refusal(write({key: value}))
    assert re.search(rf"\b{re.escape(key)}\b", message), message
    assert named in message
    assert " should " not in message
    assert "pattern" not in message


@pytest.mark.parametrize(
    ("source", "splits"),
    [
        ("celeba", "train val test"),
        ("wider_face", "train val test"),
        ("pipa", "leftover train val test"),
        ("folder", "mine"),
    ],
)
def test_splits_are_those_of_the_source(write: Write, source: str, splits: str) -> None:
    key, exclude = ("hr_roles.train", {}) if source == "celeba" else ("lr_roles.web", {"exclude": "none.txt"})
    for split in ("all", *splits.split()):
        read_all_params(write({key: {"source": source, "path": "x", "split": split, **exclude}}))
    if source != "folder":
        message = refusal(write({key: {"source": source, "path": "x", "split": "mine", **exclude}}))
        assert f"{key}.split: found 'mine', wanted all or {splits.split()[0]} or" in message


@pytest.mark.parametrize(
    "key",
    [
        *("seed", "pretrain_sr.iterations", "schedule.ema", "hr_faces.jitter.roll", "hr_roles.test", "lr_roles.cctv"),
        *("lr_roles.train.exclude", "hr_roles.train.path"),
    ],
)
def test_missing_keys_are_named(write: Write, key: str) -> None:
    message = refusal(write(drop=key))
    assert f"{key}: missing" in message


@pytest.mark.parametrize(
    ("key", "names", "found"),
    [
        ("methods", ["bicubic", "esrgan"], "'esrgan'"),
        ("methods", [], "none"),
        ("methods", ["bicubic", "cr", "bicubic"], "'bicubic' twice"),
        ("joint_variants", ["wo_everything"], "'wo_everything'"),
    ],
)
def test_unknown_and_repeated_methods_are_refused(write: Write, key: str, names: list[str], found: str) -> None:
    message = refusal(write({key: names}))
    assert f"{key}: found {found}, wanted" in message
    assert "cr" in message.partition("wanted")[2]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/object:os.system", "!!python/name:os.system"]
)
def test_tags_are_refused_and_not_run(write: Write, tmp_path: Path, tag: str) -> None:
    path = write()
    ran = tmp_path / "ran"
    argument = f' ["touch {ran}"]' if "apply" in tag else ' ""'
    text = re.sub(r"^epoch_scale: .*$", f"epoch_scale: {tag}{argument}", path.read_text(), flags=re.MULTILINE)
    path.write_text(text)
    message = refusal(path)
    assert not ran.exists()
    assert "python/" in message
    assert re.search(r"\bepoch_scale\b|line \d+", message)


def test_a_stage_shows_one_line_for_a_tag(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write()
    path.write_text("epoch_scale: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(SystemExit) as caught:
        run(lambda: read_all_params(path) and None)
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "epoch_scale" in error or "line 1" in error


@pytest.mark.parametrize(
    "content",
    [b"", b"- a\n- b\n", b"seed: [1\n", b"seed: 1\n  lambda: 2\n", b"seed: \xff\xfe", b"seed: 2024-13-45\n", b"\x00"],
    ids=["empty", "list", "unclosed", "indented", "not_utf8", "bad_date", "nul"],
)
def test_what_is_not_a_mapping_of_plain_yaml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    refusal(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "not found" in refusal(tmp_path / "params.yaml")


def test_exponents_without_a_dot_become_numbers(write: Write) -> None:
    """YAML 1.1 reads 5e-4 as a string; the wrong reading would hand that string to a method's own key."""
    path = write({"peers.vdsr.tv_weight": "WEIGHT", "pretrain_sr.lr": "RATE"})
    text = path.read_text().replace("WEIGHT", "1e-3").replace("RATE", "1E-05")
    path.write_text(text)
    assert yaml.safe_load(text)["peers"]["vdsr"]["tv_weight"] == "1e-3"
    params = read_all_params(path)
    assert params.peers["vdsr"].model_dump()["tv_weight"] == 0.001
    assert params.pretrain_sr.lr == 0.00001


def test_a_section_takes_from_the_schedule_what_it_does_not_say(write: Write) -> None:
    params = read_all_params(
        write({"schedule.clip_norm": 3.0, "pretrain_cr.clip_norm": 4.0, "peers.lrgan.clip_norm": 5.0})
    )
    assert (params.pretrain_sr.clip_norm, params.pretrain_cr.clip_norm) == (3.0, 4.0)
    assert (params.peers["csri"].clip_norm, params.peers["lrgan"].clip_norm) == (3.0, 5.0)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("DEVICE", "gpu", "auto, cpu, cuda or cuda:N"),
        ("DEVICE", "cuda:x", "auto, cpu, cuda or cuda:N"),
        ("EXECUTOR", "threads:2", "serial, processes:N or dask:ADDRESS"),
        ("EXECUTOR", "processes:0", "serial, processes:N or dask:ADDRESS"),
        ("LOG_EVERY", "0", "Input should be greater than or equal to 1"),
        ("CHECKPOINT_EVERY", "often", "Input should be a valid integer"),
    ],
)
def test_a_wrong_environment_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    monkeypatch.setenv(f"CHARREG_{name}", value)
    with pytest.raises(CharregError, match=rf"^CHARREG_{name}: found .*{value}.*, wanted {re.escape(wanted)}"):
        runtime()


def test_the_environment_says_where_and_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARREG_DEVICE", "cuda:1")
    monkeypatch.setenv("CHARREG_LOG_EVERY", "7")
    found = runtime()
    assert (found.device, found.log_every, found.health_every, found.launch) == ("cuda:1", 7, None, "python")


# --- what a stage sees -----------------------------------------------------------------------------------


def test_only_declared_keys_are_seen(toy_file: Path) -> None:
    params = read_params(toy_file, ("seed", "pretrain_sr", "lr_roles.web"))
    assert params.seed == 0
    assert params.pretrain_sr.batch == 4
    assert list(params.lr_roles) == ["web"]
    for undeclared in ("lambda_cr", "finetune_joint", "hr_roles", "methods"):
        with pytest.raises(AttributeError, match=undeclared):
            getattr(params, undeclared)
    dumped = params.model_dump(mode="json", warnings=False)
    assert set(dumped) == {"seed", "pretrain_sr", "lr_roles"}


def test_undeclared_keys_are_checked_all_the_same(write: Write) -> None:
    with pytest.raises(CharregError, match=r"pretrain_cr\.batch"):
        read_params(write({"pretrain_cr.batch": -1}), ("seed",))


def test_params_cannot_be_changed_by_a_stage(toy_params: Params) -> None:
    with pytest.raises(ValueError, match="frozen"):
        toy_params.seed = 3
    with pytest.raises(ValueError, match="frozen"):
        toy_params.pretrain_sr.lr = 3.0


@pytest.mark.parametrize(("scale", "wanted"), [(1.0, 6), (0.5, 3), (2.0, 12), (0.25, 2), (0.001, 1)])
def test_epoch_scale_scales_iterations(toy_params: Params, scale: float, wanted: int) -> None:
    assert scaled_iterations(toy_params.pretrain_sr, scale) == wanted
