"""The `charreg` command: profiles as flags for `dvc exp run`, a check of params.yaml, the resume states."""

import shutil
from pathlib import Path
from typing import Annotated

import typer
import yaml

from charreg.errors import run
from charreg.params import check_params, read_all_params
from charreg.profiles import apply_profile, override_flags, read_profile

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

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
    check_params(apply_profile(yaml.safe_load(params.read_text(encoding="utf-8")), overrides), path)
    print(" ".join(override_flags(overrides)))


@app.command("params")
def check(params: ParamsFile = Path("params.yaml")) -> None:
    """Check params.yaml; print OK or the first fault."""
    read_all_params(params)
    print(f"{params}: OK")


@app.command()
def scratch(
    clear: Annotated[bool, typer.Option("--clear", help="Remove them, except those of running trainings.")] = False,
) -> None:
    """List the resume states under .dvc/tmp/charreg."""
    from charreg.checkpoint import is_held, scratch_root  # torch takes seconds; the other commands do without

    root = scratch_root()
    folders = sorted(folder for folder in root.glob("*/*") if folder.is_dir())
    if not folders:
        print(f"{root}: no resume states")
    for folder in folders:
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        steps = [int(note.stem.removeprefix("state-")) for note in folder.glob("state-*.json")]
        where = f"step {max(steps)}" if steps else "no whole state"
        held = is_held(folder)
        word = "in use, kept" if held and clear else "in use" if held else "removed" if clear else "idle"
        if clear and not held:
            shutil.rmtree(folder)
        print(f"{folder.parent.name}/{folder.name}  {where}  {size / 2**20:.1f} MiB  {word}")


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
    from charreg.upscale import upscale_folder  # torch takes seconds; the other commands do without

    count = upscale_folder(model, source, out, "genuine" if characteristic_module else "artificial")
    print(f"{out}: {count} faces")


def main() -> None:
    """Entry point: faults are one line on stderr and exit status 1."""
    run(app)


if __name__ == "__main__":
    main()
