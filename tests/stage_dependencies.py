"""Which project files a stage script imports, read from the source (imports inside functions included).

`python tests/stage_dependencies.py` brings the module lists of dvc.yaml up to date.
"""

import ast
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"


def module_file(name: str) -> Path | None:
    """The file of a charreg module, None when there is no such module."""
    path = SOURCE / Path(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported(file: Path) -> set[Path]:
    """Files of the charreg modules that one file imports, with the packages around them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = set()
    for name in names:
        if name.split(".")[0] == "charreg" and module_file(name):
            parts = name.split(".")
            files |= {module_file(".".join(parts[: end + 1])) for end in range(len(parts))}
    return {path for path in files if path}


def closure(script: Path) -> list[str]:
    """The script and every project file it imports, directly or not, as paths from the root, sorted."""
    seen, todo = set(), [script]
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            todo += imported(file)
    return sorted(path.relative_to(ROOT).as_posix() for path in seen)


def peer_jobs() -> list[Path]:
    return sorted((SOURCE / "charreg/jobs").glob("train_*.py"))


def code_of(name: str, script: str) -> list[str]:
    """The code a stage depends on: what its script imports, and what it looks up by name; a package that it needs
    every module of is named as a folder (every entry costs `dvc repro` time, at every stage).

    A peer depends on its own job file, and on what any peer's job shares; whoever rebuilds a model, on every network.
    """
    files = set(closure(ROOT / script))
    if name == "train_peer":
        own = {path.relative_to(ROOT).as_posix() for path in peer_jobs()} - {"src/charreg/cr/train_centreface.py"}
        files |= {file for path in peer_jobs() for file in closure(path)} - own
        files.add("src/charreg/jobs/train_${item}.py")
    if name == "super_resolve":
        networks = sorted((SOURCE / "charreg/networks").glob("*.py"))
        files |= {path.relative_to(ROOT).as_posix() for path in networks}
    return sorted(in_folders(files))


def in_folders(files: set[str]) -> set[str]:
    """The files, those of a package that is there as a whole by its folder."""
    for package in SOURCE.glob("charreg/*/__init__.py"):
        modules = {path.relative_to(ROOT).as_posix() for path in package.parent.rglob("*.py")}
        if modules <= files:
            files = files - modules | {package.parent.relative_to(ROOT).as_posix()}
    return files


def script_of(stage: dict[str, Any]) -> str:
    """The path of the script a stage's command runs."""
    return next(word for word in stage["cmd"].split() if word.startswith("stages/"))


def definitions(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The stages of a dvc.yaml, `foreach` ones by what they do."""
    return {name: stage.get("do", stage) for name, stage in content["stages"].items()}


def is_code(dependency: str) -> bool:
    return dependency.startswith(("src/", "stages/"))


def main() -> None:
    yaml = YAML()
    yaml.width = 110
    path = ROOT / "dvc.yaml"
    content = yaml.load(path.read_text(encoding="utf-8"))
    for name, stage in definitions(content).items():
        deps = stage["deps"]
        data = [dependency for dependency in deps if not is_code(dependency)]
        wanted = [*data, *code_of(name, script_of(stage))]
        if list(deps) != wanted:
            deps.clear()
            deps.extend(wanted)
            deps.fa.set_block_style()
    with open(path, "w", encoding="utf-8") as file:
        yaml.dump(content, file)


if __name__ == "__main__":
    main()
