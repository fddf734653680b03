"""dvc.yaml tells the whole truth: the code a stage imports and the parameters it reads, no more, no less; and the
rooms of src/charreg depend on each other in one direction."""

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT

SOURCE = ROOT / "src"
CONTENT = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = {name: stage.get("do", stage) for name, stage in CONTENT["stages"].items()}
PEERS = sorted(path.stem for path in (SOURCE / "charreg/peers").glob("[a-z]*.py") if path.stem != "base")

# Who may import whom: the rooms to the right, and nothing else.
ARROWS = {
    "core": (),
    "photos": ("core",),
    "networks": ("core",),
    "training": ("core", "networks"),
    "metrics": ("core",),
    "cr": ("core", "networks", "training", "metrics"),
    "peers": ("core", "networks", "training"),
    "complexity": ("core", "networks", "cr", "peers"),
    "report": ("core",),
    "app": ("core", "networks", "training", "metrics", "photos", "cr", "peers", "report"),
}


def imported_names(file: Path) -> set[str]:
    """The modules a file imports, also inside functions; of a package's parts those that are modules."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def module_file(name: str) -> Path | None:
    path = SOURCE / Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def closure(*scripts: Path) -> set[str]:
    """The scripts and every project file they import, directly or not, as paths from the root."""
    seen: set[Path] = set()
    todo = list(scripts)
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            names = imported_names(file)
            todo += [
                found for name in names if name.split(".")[0] in ("charreg", "here") if (found := module_file(name))
            ]
    return {path.relative_to(ROOT).as_posix() for path in seen}


def script_of(stage: dict[str, Any]) -> str:
    return next(word for word in stage["cmd"].split() if word.startswith("stages/"))


def code_of(stage: dict[str, Any]) -> set[str]:
    return {dependency for dependency in stage["deps"] if dependency.startswith(("src/", "stages/"))}


def covered(file: str, dependencies: set[str]) -> bool:
    return any(file == dependency or file.startswith(f"{dependency}/") for dependency in dependencies)


def variants(name: str) -> Iterator[tuple[set[str], set[str]]]:
    """The code a stage lists and the files it needs; of a stage that repeats over peers, one after the other."""
    script = ROOT / script_of(STAGES[name])
    if name != "train_peer":
        looked_up = [SOURCE / f"charreg/peers/{peer}.py" for peer in PEERS] if name == "check_params" else []
        yield code_of(STAGES[name]), closure(script, *looked_up)
    else:
        for peer in PEERS:
            listed = {dependency.replace("${item}", peer) for dependency in code_of(STAGES[name])}
            yield listed, closure(script, SOURCE / f"charreg/peers/{peer}.py")


@pytest.mark.parametrize("name", STAGES)
def test_code_dependencies_are_complete(name: str) -> None:
    for listed, needed in variants(name):
        packages = {"src/charreg/__init__.py", *(f"src/charreg/{room}/__init__.py" for room in ARROWS)}
        assert [file for file in sorted(needed - packages) if not covered(file, listed)] == []


@pytest.mark.parametrize("name", STAGES)
def test_no_code_dependency_is_superfluous(name: str) -> None:
    cases = list(variants(name))
    for dependency in code_of(STAGES[name]):
        used = [
            any(covered(file, {dependency.replace("${item}", peer)}) for peer in (*PEERS, "") for file in needed)
            for _, needed in cases
        ]
        assert any(used), dependency


def test_an_import_inside_a_function_is_seen() -> None:
    assert "src/charreg/core/params.py" in closure(ROOT / "stages/evaluate.py")
    assert "torch" in imported_names(SOURCE / "charreg/core/runtime.py")


def load_script(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_keys_the_script_reads(name: str) -> None:
    script = load_script(script_of(STAGES[name]))
    listed = {re.sub(r"\$\{(key|item)\}", "{}", key) for key in STAGES[name].get("params", [])}
    assert listed == {re.sub(r"\{\w+\}", "{}", key) for key in getattr(script, "READS", ())}
    reads_all = "read_all_params" in (ROOT / script_of(STAGES[name])).read_text(encoding="utf-8")
    assert reads_all == ("params.yaml" in STAGES[name]["deps"])


@pytest.mark.parametrize("name", STAGES)
def test_every_path_of_the_command_is_a_dependency_or_an_output(name: str) -> None:
    stage = STAGES[name]
    words = [word.strip('"') for word in stage["cmd"].split()]
    paths = {
        word for flag, word in pairwise(words) if flag.startswith("--") and ("/" in word or word.startswith("${item."))
    }
    named = set(map(str, stage["deps"]))
    for out in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
        named |= set(out) if isinstance(out, dict) else {out}
    for path in paths:
        known = any(path == other or other.startswith(f"{path}/") or path.startswith(f"{other}/") for other in named)
        assert known, f"{name}: {path} is not named"


@pytest.mark.parametrize("name", ["hr_faces", "lr_faces"])
def test_a_folder_with_a_space_stays_one_word(name: str) -> None:
    paths = {"path": "raw/my photos", "exclude": "raw/not these.txt"}
    used = [key for key in paths if f"${{item.{key}}}" in STAGES[name]["deps"]]
    command = re.sub(r"\$\{item\.(\w+)\}", lambda match: paths[match[1]], STAGES[name]["cmd"])
    assert used
    assert {paths[key] for key in used} <= set(shlex.split(command))


def test_every_stage_waits_for_the_check_of_the_parameters() -> None:
    """DVC removes a stage's outputs before it runs it, so a refused value has to be refused before."""
    makers = {out: name for name, stage in STAGES.items() for out in map(str, stage.get("outs", []))}
    behind = {"check_params"}
    for _ in STAGES:
        for name, stage in STAGES.items():
            roots = {re.sub(r"\$\{item\}|\$\{key\}", "", path).rstrip("/") for path in map(str, stage["deps"])}
            made = [
                maker
                for out, maker in makers.items()
                if any(out.startswith(root) or root.startswith(out) for root in roots if root)
            ]
            if "data/params_checked" in stage["deps"] or behind & set(made):
                behind.add(name)
    assert set(STAGES) - behind == {"compose_bicubic"}  # it reads no parameter


# --- the rooms -------------------------------------------------------------------------------------------


def rooms() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in (SOURCE / "charreg").rglob("*.py"):
        parts = file.relative_to(SOURCE / "charreg").parts
        if file.name != "__init__.py" or len(parts) > 1:
            found.setdefault(parts[0].removesuffix(".py"), []).append(file)
    return found


def test_arrows_run_downwards_only() -> None:
    assert set(rooms()) == set(ARROWS)
    for room, files in rooms().items():
        for file in files:
            names = {name for name in imported_names(file) if name.startswith("charreg.") and module_file(name)}
            into = {name.split(".")[1] for name in names} - {room}
            assert into <= set(ARROWS[room]), f"{file.relative_to(ROOT)} imports {into - set(ARROWS[room])}"


def test_no_peer_imports_another() -> None:
    for peer in PEERS:
        names = imported_names(SOURCE / f"charreg/peers/{peer}.py")
        assert not [other for other in PEERS if other != peer and f"charreg.peers.{other}" in names], peer


def test_a_name_means_one_thing() -> None:
    """No class and no module is called like another."""
    classes: dict[str, list[str]] = {}
    modules: dict[str, list[str]] = {}
    for file in (SOURCE / "charreg").rglob("*.py"):
        place = file.relative_to(SOURCE).as_posix()
        if file.name != "__init__.py":
            modules.setdefault(file.name, []).append(place)
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(place)
    twice = {name: places for name, places in (modules | classes).items() if len(places) > 1}
    assert twice == {}, twice


def test_the_report_needs_no_torch() -> None:
    program = "import runpy, sys; runpy.run_path('stages/report.py', run_name='stage'); print(*sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "matplotlib" in done.stdout.split()
    assert "torch" not in done.stdout.split()
