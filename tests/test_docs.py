"""What the pages name exists: paths, links and their anchors, commands and their options, parameters, variables.

A page is README.md, one of docs/ or the README of a folder of results/.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from dvc.cli.parser import get_main_parser
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides

from charreg.app.cli import app
from charreg.core.errors import CharregError
from charreg.core.params import check_params
from charreg.core.runtime import PREFIX, Runtime
from test_dvc_yaml import ARROWS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for glob in ("README.md", "docs/*.md", "results/*/README.md")
    for path in ROOT.glob(glob)
)
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
README_WORDS = 1100
OURS = ("src", "stages", "tests", "docs", "profiles", "results", "benchmarks", "data", "models", "reports")
YOURS = ("data/raw/", "data/weights/", "data/composed/")  # what a person puts there
EXAMPLE = "espcn"  # the method that docs/adding-a-method.md adds
REFUSED = ["lamda_cr=1"]  # overrides a page names because they are refused
PRIVATE = {  # documents and codes that a reader of this repository does not have
    "a code of a training": r"\bS1[a-d]\b|\bS2\b",
    "a section of a document": r"\b[Mm]ethods,? (section \d|\d+\.\d)|\([Mm]ethods,? \d|# methods: ",
    "a list of mistakes or promises": r"\b[Mm]istakes? \d|\b[Pp]romises? \d",
    "a page there was": r"docs/bench\.md|charreg/jobs/|src/charreg/sources/",
}


@cache
def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def code_of(page: str) -> tuple[str, ...]:
    """The lines of fenced blocks (one that ends in a backslash with the next) and the inline code of a page."""
    text = text_of(page)
    blocks = re.findall(r"^( *)```[^\n]*\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    lines = [line for _, block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    rest = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)
    return (*lines, *(re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", rest)))


def words_after(line: str, program: str) -> list[str]:
    """The words a shell gives `program` where a line of code calls it; none elsewhere."""
    found = re.match(rf"(?:[A-Z_]+=(?:'[^']*'|\S+) )*{program} (.*)", line.strip())
    return shlex.split(found[1].replace("<", "").replace(">", ""), comments=True) if found else []


def outputs() -> Iterator[str]:
    """What stages write, as patterns of paths."""
    for stage in STAGES.values():
        stage = stage.get("do", stage)
        for out in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            for name in out if isinstance(out, dict) else [out]:
                yield re.sub(r"\$\{\w+\}", "*", name)


OUTPUTS = list(outputs())


def is_there(path: str) -> bool:
    """Whether a path, perhaps with <placeholders>, {choices} or *, is in the repository or written by a stage."""
    pattern = re.sub(r"<[^>]+>|\{[^}]+\}|\$\w+", "*", path).rstrip("/")
    if f"{path}/".startswith(YOURS) or EXAMPLE in path or any(ROOT.glob(pattern)):
        return True
    return any(
        fnmatch(pattern, out) or fnmatch(pattern, f"{out}/*") or out.startswith(f"{pattern}/") for out in OUTPUTS
    )


def slugs(page: Path) -> set[str]:
    """The anchors of a markdown page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", text_of(page)) + re.findall(r'<img (src)="([^"]+)"', text_of(page))
    for label, link in links:
        if link.startswith(("https:", "http:")):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        assert target.resolve().is_relative_to(ROOT), link
        assert target.exists(), link
        if line := re.fullmatch(r"L(\d+)", anchor):
            assert f"def {label.strip('`')}(" in target.read_text(encoding="utf-8").splitlines()[int(line[1]) - 1], link
        elif anchor:
            assert anchor in slugs(target), link


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist_or_are_outputs(page: str) -> None:
    first = "|".join(OURS)
    for line in code_of(page):
        for path in re.findall(rf"(?<![\w/.$-])((?:{first})/[\w./<>{{}},*-]*[\w>}}*/])", line):
            assert is_there(path), f"{path} in `{line}`"
        for file in re.findall(r"(?<![\w/.*<>-])([\w/-]+\.(?:py|toml|txt))\b", line):
            if not file.startswith((*YOURS, *OURS)) and not re.search(r"data/|annotation", line):
                assert any(ROOT.glob(file)) or any(ROOT.glob(f"src/**/{file}")), f"{file} in `{line}`"


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_and_stages_exist(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    for line in code_of(page):
        if called := words_after(line, "make"):
            assert called[0] in targets, line
        assert set(re.findall(r"\b([a-z]+_[a-z_]+)@", line)) <= set(STAGES), line


def parse_charreg(words: list[str]) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert words[0] in commands
    if words[1:]:  # a name alone is a mention
        commands[words[0]].make_context(words[0], words[1:])


def parse_dvc(words: list[str]) -> None:
    get_main_parser().parse_args(words)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("program", "parse"), [("charreg", parse_charreg), ("dvc", parse_dvc)])
def test_commands_and_their_options_exist(page: str, program: str, parse: Callable[[list[str]], None]) -> None:
    """An option there is not raises the parser's own error, which names it."""
    for line in code_of(page):
        inner = re.findall(rf"\$\({program} (.*?)\)", line)
        for words in (words_after(re.sub(r"\$\(.*?\)", "", line), program), *map(shlex.split, inner)):
            if words:
                parse(words)


def test_a_wrong_option_would_be_noticed() -> None:
    with pytest.raises(Exception, match="--fast"):
        parse_charreg(["doctor", "paper", "--fast"])
    with pytest.raises(Exception, match="parser error"):
        parse_dvc(["exp", "show", "--changed"])


def overrides_of(page: str) -> Iterator[list[str]]:
    for line in code_of(page):
        words = shlex.split(line, comments=True) if re.search(r"(^|\s)(-S|--set) ", line) else []
        found = [value for flag, value in pairwise(words) if flag in ("-S", "--set")]
        if found:
            yield found


def apply(overrides: list[str], folder: Path) -> None:
    """What `dvc exp run -S` does to params.yaml, and the check that comes first in a run."""
    copy = folder / "params.yaml"
    copy.write_text(text_of("params.yaml"), encoding="utf-8")
    apply_overrides(copy, overrides)
    check_params(yaml.safe_load(copy.read_text(encoding="utf-8")), copy)


@pytest.mark.parametrize("page", PAGES)
def test_overrides_are_accepted(page: str, tmp_path: Path) -> None:
    for overrides in overrides_of(page):
        if overrides == REFUSED:
            with pytest.raises((CharregError, DvcException)):
                apply(overrides, tmp_path)
        else:
            apply(overrides, tmp_path)


def test_a_path_with_spaces_brackets_and_umlauts_arrives_as_written(tmp_path: Path) -> None:
    (overrides,) = (one for one in overrides_of("README.md") if any("path" in word for word in one))
    apply(overrides, tmp_path)
    found = yaml.safe_load((tmp_path / "params.yaml").read_text(encoding="utf-8"))["lr_roles"]["web"]["path"]
    assert {" ", "(", "[", "]", "ü", "~"} <= set(found)
    assert f'"{found}"' in text_of("README.md")


def has(params: Any, key: str) -> bool:
    """Whether params.yaml has a dotted key; * stands for any."""
    first, _, rest = key.partition(".")
    found = list(params.values()) if first == "*" else [params[first]] if first in params else []
    return bool(found) and (not rest or any(isinstance(one, dict) and has(one, rest) for one in found))


@pytest.mark.parametrize("page", PAGES)
def test_parameters_with_dots_exist(page: str) -> None:
    for line in code_of(page):
        for key in re.findall(r"(?<![\w./-])[a-z_]+(?:\.(?:[a-z_0-9]+|\*))+(?![\w/(])", line):
            if key.partition(".")[0] in PARAMS and not key.endswith((".py", ".md", f".{EXAMPLE}")):
                assert has(PARAMS, key), f"{key} in `{line}`"


def test_the_page_of_rooms_draws_the_arrows_that_are_tested() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .* \|([^|]*)\|$", text_of("docs/architecture.md"), re.MULTILINE)
    drawn = {room: set(re.findall(r"\w+", imports)) for room, imports in rows}
    assert drawn == {room: set(others) for room, others in ARROWS.items() if room != "complexity"}


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_read(page: str) -> None:
    known = {PREFIX + name.upper() for name in Runtime.model_fields}
    assert set(re.findall(rf"\b{PREFIX}[A-Z_]+\b", text_of(page))) <= known


def test_readme_is_short_and_names_every_variable() -> None:
    readme = text_of("README.md")
    assert len(readme.split()) <= README_WORDS
    assert {PREFIX + name.upper() for name in Runtime.model_fields} <= set(re.findall(r"\w+", readme))


def test_ci_finds_its_two_commands() -> None:
    for name, marker in (("main", "dvc repro"), ("tests", "pytest")):
        found = re.findall(rf"<!-- ci: {name} -->\n```sh\n(.*)\n```", text_of("README.md"))
        assert len(found) == 1
        assert found[0].startswith("python -m pip install -c constraints.txt -e ")
        assert marker in found[0]


@pytest.mark.parametrize("what", PRIVATE)
def test_nothing_refers_to_what_a_reader_does_not_have(what: str) -> None:
    names = ["README.md", "Makefile", "dvc.yaml", "params.yaml", "pyproject.toml", ".ci/run"]
    globs = ["src/**/*.py", "stages/*.py", "tests/*.py", "benchmarks/*", "docs/*.md", "profiles/*.yaml"]
    files = [ROOT / name for name in names] + [path for glob in globs for path in ROOT.glob(glob) if path.is_file()]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(PRIVATE[what], line)
    ]
    assert not found, "\n".join(found)


def test_raw_data_may_be_added_as_documented(tmp_path: Path) -> None:
    """docs/datasets.md: dvc add of a folder under data/raw, and git add of what that writes."""
    (tmp_path / "data/raw/celeba").mkdir(parents=True)
    for name in (".gitignore", "data/raw/.gitignore"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "data/raw/celeba/a.jpg").write_bytes(b"x")
    dvc = [sys.executable, "-m", "dvc"]
    for words in (
        ["git", "init", "-q"],
        [*dvc, "init", "-q"],
        [*dvc, "add", "-q", "data/raw/celeba"],
        ["git", "add", "data/raw/celeba.dvc", "data/raw/.gitignore"],
    ):
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    listed = subprocess.run(
        ["git", "ls-files", "data"], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    assert listed.split() == ["data/raw/.gitignore", "data/raw/celeba.dvc"]
