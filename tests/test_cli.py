"""The `charreg` command and the profiles."""

import hashlib
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from charreg.app.cache import damaged_objects
from charreg.app.cli import app
from charreg.app.weights import KNOWN
from charreg.core.errors import CharregError, run
from charreg.core.params import TRAININGS, check_params, parse_yaml, read_all_params
from charreg.core.profiles import apply_profile, override_flags, read_profile
from charreg.photos.journal import JOURNAL, Journal

ROOT = Path(__file__).parents[1]
PROFILES = sorted((ROOT / "profiles").glob("*.yaml"))


def charreg(*words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command, run in this process."""
    monkeypatch.setattr(sys, "argv", ["charreg", *words])
    status = 0
    try:
        run(app)
    except SystemExit as stop:
        status = int(stop.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """charreg(words) in an empty project that has this repository's params.yaml and profiles."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "profiles").mkdir()
    for path in PROFILES:
        (tmp_path / "profiles" / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return lambda *words: charreg(*words, capsys=capsys, monkeypatch=monkeypatch)


def plain_params() -> Any:
    return parse_yaml(ROOT / "params.yaml")


def parse_text(text: str) -> Any:
    """A value as a command line has it."""
    try:
        return float(text) if "e" in text.lower() else yaml.safe_load(text)
    except ValueError:
        return yaml.safe_load(text)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_is_valid(path: Path) -> None:
    check_params(apply_profile(plain_params(), read_profile(path)), path)


def test_nothing_chosen_for_the_embedded_photographs_leaks_into_the_paper_profile() -> None:
    """Every number that shapes faces, networks or trainings is set there, even where it agrees today."""
    params, paper = plain_params(), read_profile(ROOT / "profiles/paper.yaml")
    common = set(params["schedule"])
    for section in ("detection", "lr_faces", "hr_faces", "super_resolver", "regulariser", "discriminator",
                    "feature_discriminator", "centreface", "train_centreface", "pretrain_sr", "pretrain_inverse_cr",
                    "pretrain_cr", "finetune_joint", "deduplicate", "geometry", "evaluate"):  # fmt: skip
        wanted = params[section].keys() | (common if section in TRAININGS else set())
        assert wanted <= paper[section].keys(), section
    for name in params["peers"]:
        chosen = {key for key, value in params["peers"][name].items() if value != ""}  # no path is chosen for anybody
        assert chosen | common == paper["peers"][name].keys()
    assert paper["evaluate"]["features"] == "inception"
    assert (ROOT / paper["evaluate"]["weights"]).name == KNOWN["inception"].file
    assert paper["evaluate"]["sha256"] == KNOWN["inception"].sha256
    assert {key for key in params if key.startswith("lambda_")} <= paper.keys()
    assert paper["lr_faces"]["min_score"] == 0.9
    assert paper["centreface"]["batch_norm"] is False


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_flags_survive_plain_word_splitting(path: Path) -> None:
    """What a shell makes of $(charreg profile ...) is what was meant, and says what the profile says."""
    flags = override_flags(read_profile(path), plain_params())
    assert " ".join(flags).split() == flags == shlex.split(" ".join(flags))
    assert flags[::2] == ["-S"] * (len(flags) // 2)
    content = plain_params()
    for flag in flags[1::2]:
        key, _, text = flag.removeprefix("++").partition("=")
        *sections, last = key.split(".")
        inner = content
        for section in sections:
            inner = inner.setdefault(section, {}) if flag.startswith("++") else inner[section]
        inner[last] = parse_text(text)
    assert check_params(content, path) == check_params(apply_profile(plain_params(), read_profile(path)), path)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_dvc_reads_the_flags(path: Path, tmp_path: Path) -> None:
    """DVC's own parser of -S writes what the profile says into params.yaml."""
    from dvc.utils.hydra import apply_overrides

    copy = tmp_path / "params.yaml"
    copy.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    apply_overrides(copy, override_flags(read_profile(path), plain_params())[1::2])
    assert read_all_params(copy) == check_params(apply_profile(plain_params(), read_profile(path)), path)


@pytest.mark.parametrize("flag", ["lambda_cr=0.1", "pretrain_sr.iterations=7", "evaluate.trials=3"])
def test_one_setting_changes_one_line(flag: str, tmp_path: Path) -> None:
    """params.yaml lies in the layout that DVC's writer keeps."""
    from dvc.utils.hydra import apply_overrides

    copy = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text(encoding="utf-8")
    copy.write_text(before, encoding="utf-8")
    apply_overrides(copy, [flag])
    after = copy.read_text(encoding="utf-8").splitlines()
    changed = [line for line, other in zip(after, before.splitlines(), strict=True) if line != other]
    assert len(changed) == 1
    assert flag.partition("=")[2] in changed[0]


def test_profile_prints_flags(command: Any) -> None:
    status, out, err = command("profile", "smoke")
    assert (status, err) == (0, "")
    assert out.startswith("-S packaged_photos.photos.train=")
    assert "-S super_resolver.blocks=[2,1,1]" in out
    assert len(out.splitlines()) == 1


def test_a_damaged_cache_is_found_by_its_names(command: Any, tmp_path: Path) -> None:
    assert command("mend-cache") == (1, "", f"charreg: {tmp_path}: not a DVC project, wanted the folder with .dvc\n")
    for content in (b"good", b"good too"):
        name = hashlib.md5(content).hexdigest()
        (tmp_path / name[:2]).mkdir()
        (tmp_path / name[:2] / name[2:]).write_bytes(content)
    assert list(damaged_objects(tmp_path)) == []
    listing = hashlib.md5(b"[]").hexdigest()
    (tmp_path / listing[:2]).mkdir()
    (tmp_path / listing[:2] / f"{listing[2:]}.dir").write_bytes(b"[]")
    (tmp_path / name[:2] / name[2:]).write_bytes(b"good two")
    assert list(damaged_objects(tmp_path)) == [tmp_path / name[:2] / name[2:]]


def test_unknown_profile_lists_the_available(command: Any) -> None:
    status, out, err = command("profile", "smok")
    assert (status, out) == (1, "")
    assert err == "charreg: profiles/smok.yaml: no such profile, found bench, paper, smoke\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lambda_c: 0.1\n", "lambda_c: unknown key"),
        ("evaluate: {trial: 3}\n", "evaluate.trial: unknown key"),
        ("evaluate: 3\n", "evaluate: found 3, wanted a mapping"),
        ("seed: {a: 1}\n", "seed: found {'a': 1}, wanted a plain value"),
        ("evaluate: {trials: -3}\n", "evaluate.trials: found -3, wanted greater than or equal to 1"),
        ("report: {title: two words}\n", "report.title: found 'two words', wanted letters"),
        ("- 1\n", "found list, wanted a mapping"),
        ("seed: !!python/object:os.system\n", "not plain YAML"),
    ],
)
def test_faulty_profile_is_refused_in_one_line(command: Any, text: str, message: str) -> None:
    Path("profiles/odd.yaml").write_text(text, encoding="utf-8")
    status, out, err = command("profile", "odd")
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert message in err


def test_params_command(command: Any) -> None:
    assert command("params") == (0, "params.yaml: OK\n", "")
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text + "lambda_c: 1\n", encoding="utf-8")
    assert command("params") == (1, "", "charreg: params.yaml: lambda_c: unknown key, check its spelling\n")
    assert command("params", "--params", "other.yaml")[0] == 1


def test_default_params_are_valid() -> None:
    read_all_params(ROOT / "params.yaml")


def test_scratch_lists_and_clears_but_spares_running_trainings(command: Any) -> None:
    Path(".dvc").mkdir()
    assert "no resume states" in command("scratch")[1]
    idle, busy = (Path(".dvc/tmp/charreg/pretrain_sr") / name for name in ("aa11", "bb22"))
    for folder in (idle, busy):
        folder.mkdir(parents=True)
        (folder / "state-000000040.json").write_text("{}", encoding="ascii")
    with FileLock(busy / "lock"):
        status, out, _ = command("scratch")
        assert status == 0
        assert "pretrain_sr/aa11  step 40" in out
        assert out.splitlines()[1].endswith("in use")
        _, out, _ = command("scratch", "--clear")
        assert not idle.exists()
        assert busy.exists()
        assert "in use, kept" in out
    command("scratch", "--clear")
    assert not busy.exists()


def test_scratch_knows_interrupted_extractions(command: Any) -> None:
    folder = Path(".dvc/tmp/charreg/lr_faces-train/cc33")
    folder.mkdir(parents=True)
    with Journal(folder / JOURNAL, 2000) as journal:
        for place in range(1234):
            journal.append(place, b"faces")
    assert "lr_faces-train/cc33  1,234 photographs  0.0 MiB  idle" in command("scratch")[1]
    assert command("scratch", "--clear")[1].endswith("removed\n")
    assert not folder.exists()


def test_command_line_has_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "charreg.app.cli", "profile", "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_long_values_are_refused_by_key() -> None:
    with pytest.raises(CharregError, match=r"a\.b: found 'x y'"):
        override_flags({"a": {"b": ["x y"]}}, {})


def test_the_version_and_the_models_are_told(command: Any) -> None:
    assert command("--version")[1].startswith("charreg 0.")
    folder = Path("models/mine")
    folder.mkdir(parents=True)
    (folder / "model.json").write_text('{"networks": {"super_resolver": {}}, "job": "mine"}', encoding="utf-8")
    out = command("models")[1].splitlines()
    assert out[0].startswith("shipped  CR  super_resolver, regulariser")
    assert out[1] == "models/mine  mine  super_resolver  0.0 MiB"


def test_a_role_whose_photographs_are_not_here_is_refused_first(tmp_path: Path) -> None:
    """As in the copy that `dvc exp run --temp` makes: data nobody tracks is not in it."""
    content = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("data/packaged/photos/web", "data/raw/mine")
    (tmp_path / "params.yaml").write_text(content, encoding="utf-8")
    words = [sys.executable, str(ROOT / "stages/check_params.py"), "--out", "checked"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("charreg: data/raw/mine: not here, ")
    assert "dvc add data/raw/mine" in done.stderr
    assert done.stderr.count("\n") == 1
