"""The `charreg` command: photographs in and out; profiles, checks, weight files and resume states of the pipeline."""

import os
import re
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer

from charreg.app.weights import KNOWN, fetch
from charreg.core.errors import CharregError, run
from charreg.core.params import check_params, parse_yaml, read_all_params
from charreg.core.profiles import apply_profile, override_flags, read_profile
from charreg.core.scratch import is_held, scratch_root
from charreg.photos.journal import JOURNAL, count_records

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

CORES = os.cpu_count() or 1
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
    source: Annotated[Path, typer.Argument(help="A photograph, a video, a folder or an archive of them.")],
    out: Annotated[Path, typer.Argument(help="A folder; of one photograph also a file.")],
    model: Annotated[Path | None, typer.Option(help="A model folder; the shipped one without.")] = None,
    strength: Annotated[float | None, typer.Option(min=0, max=1, help="Of the regulariser; 0: none.")] = None,
    faces: Annotated[str, typer.Option(metavar="LOW-HIGH", help="Longer side of the faces, px.")] = "8-32",
    scale: Annotated[int, typer.Option(help="How much larger the photograph gets: 1, 2 or 4.")] = 4,
    crops: Annotated[bool, typer.Option("--crops", help="Every picture is the square of one face.")] = False,
    faces_only: Annotated[bool, typer.Option("--faces-only", help="Write the faces, not the photographs.")] = False,
    keep_model_colours: Annotated[bool, typer.Option("--keep-model-colours")] = False,
    form: Annotated[str, typer.Option("--format", help="png, jpg, webp or tiff; else as OUT says, or png.")] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make again what exists.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Processes that look for faces; as many as cores.")] = CORES,
    runtime: Annotated[str, typer.Option(help="torch, or onnx with --model FILE.onnx.")] = "torch",
) -> None:
    """Find the small faces of photographs, super-resolve them and paste them back; see also --crops, --faces-only."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", faces)
    if not found:
        raise CharregError(f"--faces: found {faces!r}, wanted two sides in px, as 8-32")
    if form not in ("", "png", "jpg", "webp", "tiff"):
        raise CharregError(f"--format: found {form!r}, wanted png, jpg, webp or tiff")
    if runtime not in ("torch", "onnx"):
        raise CharregError(f"--runtime: found {runtime!r}, wanted torch or onnx")
    from charreg.app.upscale import UpscaleOptions, upscale  # torch takes seconds; the other commands do without
    from charreg.app.upscaler import Upscaler

    options = UpscaleOptions(
        (float(found[1]), float(found[2])),
        scale,
        crops,
        faces_only,
        keep_model_colours,
        form or None,  # type: ignore[arg-type]
        overwrite,
        jobs,
    )
    upscaler = Upscaler.load(model, device=device, strength=strength, runtime=runtime)  # type: ignore[arg-type]
    print(f"strength {upscaler.strength:g}")
    summary = upscale(source, out, upscaler, options)
    print(f"{out}: {summary}")
    if not summary.done and not summary.left_out["exists"]:
        raise typer.Exit(1)


@app.command()
def models() -> None:
    """List the shipped model and those of models/ that can super-resolve."""
    from charreg.app.model_list import list_models

    for one in list_models(Path()):
        parts = ", ".join(one.networks) or "no network"
        print(f"{'shipped' if one.shipped else one.folder}  {one.label}  {parts}  {one.size / 2**20:.1f} MiB")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder, or cr for the shipped one.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx")],
) -> None:
    """Write a model as one ONNX graph: any number of faces, strength as an input."""
    from charreg.app.onnx_graph import export_onnx
    from charreg.app.upscaler import DEFAULT_MODEL, default_strength

    folder = DEFAULT_MODEL if str(model) == DEFAULT_MODEL.name and not model.exists() else model
    export_onnx(folder, out, default_strength(folder))
    print(f"{out}: {out.stat().st_size / 2**20:.1f} MiB; upscale --runtime onnx --model {out}")


@app.command()
def web(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Serve a page on 127.0.0.1: drop a photograph, see it before and after."""
    from charreg.app.web import serve

    serve(port, device)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"charreg {version('charreg')}")
        raise typer.Exit


@app.callback()
def common(
    show: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Super-resolves small, bad faces; profiles, checks, weight files and resume states of the pipeline."""


def main() -> None:
    """Entry point: faults are one line on stderr and exit status 1."""
    run(app)


if __name__ == "__main__":
    main()
