"""dvc.yaml tells the whole truth: the modules a stage imports and the parameters it reads, no more, no less."""

import importlib.util
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
import yaml

from stage_dependencies import ROOT, closure, code_of, definitions, is_code, script_of

STAGES = definitions(yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8")))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def load_script(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_modules_the_script_imports(name: str) -> None:
    listed = sorted(dependency for dependency in STAGES[name]["deps"] if is_code(dependency))
    assert listed == code_of(name, script_of(STAGES[name])), "run: python tests/stage_dependencies.py"


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_keys_the_script_reads(name: str) -> None:
    script = load_script(script_of(STAGES[name]))
    listed = {re.sub(r"\$\{(key|item)\}", "{}", key) for key in STAGES[name].get("params", [])}
    assert listed == {re.sub(r"\{\w+\}", "{}", key) for key in getattr(script, "READS", ())}


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
        assert path in named or any(other.startswith(f"{path}/") for other in named), f"{name}: {path} is not named"


@pytest.mark.parametrize("name", ["hr_faces", "lr_faces"])
def test_a_folder_with_a_space_stays_one_word(name: str) -> None:
    paths = {"path": "raw/my photos", "exclude": "raw/not these.txt"}
    used = [key for key in paths if f"${{item.{key}}}" in STAGES[name]["deps"]]
    command = re.sub(r"\$\{item\.(\w+)\}", lambda match: paths[match[1]], STAGES[name]["cmd"])
    assert used
    assert {paths[key] for key in used} <= set(shlex.split(command))


def test_a_dependency_hidden_in_a_function_would_be_noticed() -> None:
    """The report imports no torch, and evaluation reaches its feature networks only inside functions."""
    files = closure(ROOT / "stages/evaluate.py")
    assert "src/charreg/metrics/features.py" in files


@pytest.mark.parametrize("script", ["stages/finetune_joint.py", "stages/evaluate.py", "stages/report.py"])
def test_modules_after_importing_a_script_are_all_listed(script: str) -> None:
    program = (
        "import runpy, sys; runpy.run_path({script!r}, run_name='stage');"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'charreg'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program.format(script=script)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = {path.removeprefix(f"{ROOT}/") for path in result.stdout.split()}
    assert loaded
    assert loaded <= set(closure(ROOT / script))
