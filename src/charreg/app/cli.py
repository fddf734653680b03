"""The `charreg` command: profiles, checks before a run, weight files, resume states, faces without the pipeline."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from charreg.app.weights import KNOWN, fetch
from charreg.core.errors import run
from charreg.core.params import check_params, parse_yaml, read_all_params
from charreg.core.profiles import apply_profile, override_flags, read_profile
from charreg.core.scratch import is_held, scratch_root
from charreg.photos.journal import JOURNAL, count_records

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

WeightsName = Literal["inception", "vgg19"]
ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.")]


@app.command()
def profile(
    name: Annotated[str, typer.Argument(help="A file of profiles/, without .yaml.")],
    params: ParamsFile = Path("params.yaml"),
    folder: Annotated[Path, typer.Option("--profiles", help="The folder with profiles.")] = Path("profiles"),
) -> None:
    """Print the flags of a profile: dvc exp run $(charreg profile smoke)."""
    path = folder / f"{name}.yaml"
    overrides = read_profile(path)
    read_all_params(params)
    content = parse_yaml(params)
    check_params(apply_profile(content, overrides), path)
    print(" ".join(override_flags(overrides, content)))


@app.command("params")
def check(params: ParamsFile = Path("params.yaml")) -> None:
    """Check params.yaml; print OK or the first fault."""
    read_all_params(params)
    print(f"{params}: OK")


@app.command()
def doctor(
    name: Annotated[str, typer.Argument(metavar="[PROFILE]", help="A file of profiles/, without .yaml.")] = "",
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value, as -S of dvc exp run.")] = None,
    params: ParamsFile = Path("params.yaml"),
    folder: Annotated[Path, typer.Option("--profiles", help="The folder with profiles.")] = Path("profiles"),
    timing: Annotated[bool, typer.Option("--timing/--no-timing", help="Measure steps and photographs.")] = True,
) -> None:
    """Check data, disk, memory, time and weights before a run; exit status 1 if it would fail."""
    from charreg.app.doctor import examine  # torch takes seconds; the other commands do without

    path, faults = folder / f"{name}.yaml" if name else None, 0
    for finding in examine(params, path, settings or [], timing):
        print(finding, flush=True)
        faults += finding.level == "FAULT"
    if faults:
        raise typer.Exit(1)


@app.command()
def scratch(
    clear: Annotated[bool, typer.Option("--clear", help="Remove them, except those of running stages.")] = False,
) -> None:
    """List the resume states under .dvc/tmp/charreg."""
    root = scratch_root()
    folders = sorted(folder for folder in root.glob("*/*") if folder.is_dir())
    if not folders:
        print(f"{root}: no resume states")
    for folder in folders:
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        held = is_held(folder)
        word = "in use, kept" if held and clear else "in use" if held else "removed" if clear else "idle"
        if clear and not held:
            shutil.rmtree(folder)
        print(f"{folder.parent.name}/{folder.name}  {_reached(folder)}  {size / 2**20:.1f} MiB  {word}")


def _reached(folder: Path) -> str:
    """How far the interrupted work in a folder of scratch got."""
    steps = [int(note.stem.removeprefix("state-")) for note in folder.glob("state-*.json")]
    if steps:
        return f"step {max(steps)}"
    journal = folder / JOURNAL
    return f"{count_records(journal):,} photographs" if journal.exists() else "no whole state"


@app.command("mend-cache")
def mend_cache() -> None:
    """Remove damaged files from DVC's cache, so that dvc repro makes them anew."""
    from charreg.app.cache import mend  # DVC takes seconds

    removed = mend(Path.cwd())
    for path in removed:
        print(f"{path}: its md5 is not its name, removed")
    print(f"{len(removed)} damaged files; {'run dvc repro' if removed else 'nothing to do'}")


@app.command("check-lock")
def check_lock() -> None:
    """Compare what dvc.lock records of code and parameters with the tree; name what differs."""
    from charreg.app.lock import stale_entries  # DVC takes seconds

    stale = stale_entries(Path.cwd())
    for entry in stale:
        print(entry)
    print(f"dvc.lock: {len(stale)} entries differ from the tree" if stale else "dvc.lock: of this very code")
    if stale:
        raise typer.Exit(1)


@app.command("fetch-weights")
def fetch_weights(
    name: Annotated[WeightsName, typer.Argument(help="The network of FID, or of SRGAN's content loss.")] = "inception",
    url: Annotated[str, typer.Option("--url", help="Another address of the same file.")] = "",
) -> None:
    """Download a weight file to data/weights, checked by its SHA-256."""
    known = KNOWN[name]
    path, sha256 = fetch(replace(known, url=url) if url else known)
    print(f"{path}: sha256 {sha256}")
    if len(known.sha256) < len(sha256):
        print(f"only the first digits of its SHA-256 are published ({known.sha256}); they agree, the rest is unchecked")
    print(f"dvc exp run {known.use.format(path=path, sha256=sha256)}")


@app.command()
def upscale(
    source: Annotated[Path, typer.Argument(help="A face crop or a folder of face crops.")],
    out: Annotated[Path, typer.Argument(help="The folder for the 64x64 faces.")],
    model: Annotated[Path, typer.Option(help="A trained model folder.")] = Path("models/cr"),
    characteristic_module: Annotated[
        bool, typer.Option(help="Off for faces that are shrunken good ones rather than genuinely bad.")
    ] = True,
) -> None:
    """Super-resolve face crops with a trained model; every crop becomes a 64x64 PNG."""
    from charreg.app.upscale import upscale_folder  # torch takes seconds; the other commands do without

    count = upscale_folder(model, source, out, "genuine" if characteristic_module else "artificial")
    print(f"{out}: {count} faces")


def main() -> None:
    """Entry point: faults are one line on stderr and exit status 1."""
    run(app)


if __name__ == "__main__":
    main()
