"""Real training processes with toy params, and the faults injected into them. PYTEST_DONT_REWRITE

Importing torch costs seconds, so a fork server imports it once; every run is a process of its own, forked from it, that
executes a script of stages/ as the command line would. Faults are `plans`, carried out inside that process.
"""

import builtins
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[1]
ADVERSARIAL = ("pretrain_inverse_cr", "pretrain_cr", "finetune_joint")  # sections of params.yaml
SECTIONS = ("train_centreface", "train_matcher", "pretrain_sr", *ADVERSARIAL)
SCHEDULE = {
    "iterations": 12,
    "batch": 4,
    "ema": 0.9,
    "lr_decay": "cosine",
    "clip_norm": 1.0,
}
# The compared systems, tiny, and again with all that keeps something from step to step. The last phase of those that
# have phases (SRGAN's GAN, SICNN's domain-integrated training, CSRI's native branch, LRGAN's low-to-high network)
# begins in the middle of a run.
PEERS: dict[str, dict[str, Any]] = {
    "vdsr": {"width": 4, "depth": 3},
    "srgan": {"width": 4, "blocks": 1, "norm": "bn", "d_width": 2, "gan_share": 0.5},
    "fsrnet": {
        "width": 4,
        "lr": 2.5e-5,  # RMSprop's first steps are ten times as long, and rounding grows with them
        **dict.fromkeys(("encoder_blocks", "coarse_blocks", "decoder_blocks", "hourglasses", "depth"), 1),
    },
    "sicnn": {"width": 0.0625, "recogniser_width": 0.0625, "embedding": 8, "pretrain_share": 0.5},
    "cyclegan": {"width": 2, "blocks": 1, "d_width": 2, "history": 6},  # full after two batches
    "csri": {"width": 4, "depth": 3, "native_ids": "pseudo", "cluster_size": 4, "smallest_cluster": 2},
    "lrgan": {"width": 4, "blocks": [1, 1, 1], "norm": "bn", "d_width": 2, "n_critic": 2, "order": "halves"},
}
EVERYTHING_ON = {
    **{f"{job}.{key}": value for job in SECTIONS for key, value in SCHEDULE.items()},
    **{f"peers.{name}.{key}": value for name in PEERS for key, value in SCHEDULE.items()},
    **{f"peers.{name}.{key}": value for name, options in PEERS.items() for key, value in options.items()},
    **{f"{job}.d_jitter": True for job in ADVERSARIAL},
    "pretrain_sr.adv_weight": 0.1,
    "pretrain_sr.adv_warmup": 0.2,
    "finetune_joint.keep_sr_adv": 0.1,
    "finetune_joint.sr_on_pseudo": True,
    "finetune_joint.adv_ramp": 0.5,
}
BATCH_NORM = {"super_resolver.norm": "bn", "regulariser.norm": "bn", "centreface.batch_norm": True}
NO_BATCH_NORM = {"super_resolver.norm": "none", "regulariser.norm": "none", "centreface.batch_norm": False}


def cadence(steps: int) -> dict[str, str]:
    """The environment of a training that logs, measures, draws and writes a state every so many steps."""
    return {f"CHARREG_{what}_EVERY": str(steps) for what in ("LOG", "HEALTH", "SHEET", "CHECKPOINT")}


# --- inside the forked process ---------------------------------------------------------------------------


def carry_out(name: str, *words: Any) -> None:
    """Prepare one fault. `step` counts finished steps."""
    from charreg.training import loop as training

    advance = training.Training.advance

    def at_every_step(act: Callable[[Any], None]) -> None:
        before = training.Training.look

        def looked(self: Any) -> None:
            before(self)
            act(self)

        training.Training.look = looked

    if name == "signal":  # a number, at the end of a step, before a state is written
        number, step = words
        at_every_step(lambda self: os.kill(os.getpid(), number) if self.done == step else None)
    elif name == "slow":  # seconds a step
        at_every_step(lambda self: time.sleep(words[0]))
    elif name == "loss":  # a loss of a step is no longer a number
        step, loss = words

        def poisoned(self: Any) -> None:
            original = self.job.step
            if self.done == step:
                self.job.step = lambda number: {**original(number), loss: torch.tensor(float("nan"))}
            advance(self)

        training.Training.advance = poisoned
    elif name == "weights":  # a weight breaks in the update of a step, its losses were still numbers

        def broken(self: Any) -> None:
            advance(self)
            if self.done == words[0]:
                next(next(iter(self.job.networks.values())).parameters()).data[0] = float("inf")

        training.Training.advance = broken
    elif name == "double":  # everything in float64
        torch.set_default_dtype(torch.float64)
        torch.Tensor.float = torch.Tensor.double
    elif name == "torch":
        torch.__version__ = words[0]
    elif name == "file_size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (words[0], words[0]))
    elif name == "crash":
        crash_at(words[0])
    elif name == "no_steps":  # whatever happens, nothing may be trained

        def refuse(self: Any) -> None:
            raise AssertionError(f"trained step {self.done}")

        training.Training.advance = refuse
    else:
        raise ValueError(name)


def points_of_writing(reached: Callable[[], None]) -> Callable[[], None]:
    """Call `reached` at every point of writing files: before, amid and after a write, around fsync, replace, unlink.

    Returns what undoes it.
    """
    from charreg.core import files

    kept = {"fsync": os.fsync, "replace": os.replace, "unlink": Path.unlink}

    def around(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **options: Any) -> Any:
            reached()
            result = call(*args, **options)
            reached()
            return result

        return called

    class Halting:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.file = builtins.open(*args, **options)  # noqa: SIM115  closed by __exit__

        def __enter__(self) -> "Halting":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, content: Any) -> None:
            reached()
            self.file.write(content[: len(content) // 2])
            self.file.flush()
            reached()
            self.file.write(content[len(content) // 2 :])
            self.file.flush()
            reached()

    files.open = lambda path, mode="r", *a, **o: (Halting if "w" in mode else builtins.open)(path, mode, *a, **o)
    os.fsync, os.replace = around(kept["fsync"]), around(kept["replace"])
    Path.unlink = around(kept["unlink"])

    def undo() -> None:
        del files.open
        os.fsync, os.replace, Path.unlink = kept["fsync"], kept["replace"], kept["unlink"]

    return undo


def crash_at(point: int) -> None:
    """Leave the process without a word at one of the points of writing."""
    count = 0

    def reached() -> None:
        nonlocal count
        count += 1
        if count == point:
            os._exit(77)

    points_of_writing(reached)


def toy_state(step: int) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return {"weights": torch.full((500,), float(step)), "count": torch.tensor(step)}, {"curves": [{"step": step}]}


def save_toy_states(root: str, first: int, last: int) -> None:
    """What a training does with its scratch, without the training."""
    from charreg.training.checkpoint import Scratch

    scratch = Scratch("toy", {"params": 1}, Path(root))
    with scratch.hold():
        for step in range(first, last):
            scratch.save(step, *toy_state(step))


def forked(request: Mapping[str, Any]) -> None:
    """The life of a run; leaves with the exit status the interpreter would have."""
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status: Any = 0
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        torch.set_num_threads(request["threads"])
        sys.path[:0] = request["path"]
        for plan in request["plans"]:
            carry_out(*plan)
        sys.argv = request.get("argv", [""])
        if "call" in request:  # a function, and what it is given
            module, function, *given = request["call"]
            getattr(importlib.import_module(module), function)(*given)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as leave:
        status = leave.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def serve() -> None:
    """Fork a run for every line of stdin; tell its PID, or its status when asked to look. No run outlives stdin."""
    import matplotlib  # noqa: F401  what charreg will want is imported once, charreg itself by every run
    import pandas  # noqa: F401
    import PIL.Image  # noqa: F401
    import pydantic.types  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch._dynamo
    import torch.distributed.nn.functional
    import torch.optim.swa_utils  # noqa: F401
    import tqdm  # noqa: F401

    running: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if "look" in request:
            pid, status = os.waitpid(request["look"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        else:
            answer = os.fork()
            if not answer:
                forked(request)
            running.add(answer)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in running:
        os.kill(pid, signal.SIGKILL)


# --- outside it ------------------------------------------------------------------------------------------


class ForkServer:
    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "PYTHONPATH": ""}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, request: Mapping[str, Any]) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(
        self,
        folder: Path,
        log: Path,
        *plans: Sequence[Any],
        env: Mapping[str, str] | None = None,
        threads: int = 1,
        root: Path = ROOT,
        **what: Sequence[str],
    ) -> "Run":
        """A run in a folder, by the code in `root`: `argv` is a script and its arguments, `call` a function and its."""
        log.touch()
        path = [str(root / "src"), str(ROOT / "tests")]
        request = {"cwd": str(folder), "log": str(log), "plans": plans, "env": env or {}, "threads": threads}
        return Run(self, self.ask({**request, "path": path, **what}), log, folder)

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@dataclass
class Run:
    """A process on its way or ended; `code` is negative when a signal ended it."""

    server: ForkServer
    pid: int
    log: Path
    out: Path
    code: int | None = None

    def wait(self, seconds: float = 60) -> "Run":
        until = time.monotonic() + seconds
        while self.code is None and time.monotonic() < until:
            self.code = self.server.ask({"look": self.pid})
            if self.code is None:
                time.sleep(0.01)
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            raise AssertionError(f"still runs after {seconds} s:\n{self.text}")
        return self

    @property
    def text(self) -> str:
        return self.log.read_text()

    @property
    def errors(self) -> list[str]:
        """The one-line messages of charreg; a traceback counts as one more."""
        return [line for line in self.text.splitlines() if line.startswith(("charreg: ", "Traceback"))]

    def folder(self, kind: str) -> Path:
        """What the run wrote into `models` or `curves`; links lead to the models it read."""
        wrote = [path for path in (self.out / kind).glob("[!.]*") if not path.is_symlink()]
        return wrote[0] if wrote else self.out / kind / "nothing"

    @property
    def model(self) -> Path:
        return self.folder("models")

    @property
    def curves(self) -> Path:
        return self.folder("curves")

    def files(self) -> dict[str, bytes]:
        """Everything the run delivered that must not differ from run to run."""
        return {
            str(Path(kind, path.relative_to(folder))): path.read_bytes()
            for kind, folder in (("model", self.model), ("curves", self.curves))
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "timings.json"
        }


def mark_faces(faces: Any, folder: Path) -> None:
    """Copy a face set with what some peers learn from: landmarks of most faces; and two faces are nobody's.

    They get a grain too: in flat areas the maxima that max-pooling picks are tied, and rounding would decide.
    """
    from charreg.core.faces import LANDMARK_COLUMNS, FaceWriter
    from charreg.core.resampling import resize_image

    random = np.random.default_rng(0)
    folder.mkdir()
    with FaceWriter(folder, 64, lr_size=16) as writer:
        writer.notes = {key: faces.meta[key] for key in ("domain", "role")}
        for number, row in enumerate(faces.index.to_dict("records")):
            grain = random.integers(-4, 5, faces.images[number].shape)
            image = np.clip(faces.images[number] + grain, 0, 255).astype(np.uint8)
            places = zip(LANDMARK_COLUMNS, random.uniform(8, 56, len(LANDMARK_COLUMNS)), strict=True)
            changed = {**(dict(places) if number % 5 else {}), **({"identity": ""} if number in (3, 8) else {})}
            writer.add(image, {**row, **changed}, resize_image(image, 16))


FIRST_STAGE = {  # the models a stage reads
    "pretrain_cr": ("inverse_cr",),
    "train_peer": ("centreface",),
    "finetune_joint": ("sr_module", "characteristic", "inverse_cr", "centreface"),
}


class Workshop:
    """A project folder with drawn faces, toy params and first-stage models, and its own resume states."""

    def __init__(self, folder: Path, server: ForkServer, changes: Mapping[str, Any] | None = None) -> None:
        # imported here: the fork server must not know charreg, a run may bring a changed copy
        from charreg.core.models import save_model
        from conftest import draw_genuine_faces, draw_hr_faces, fresh_first_stage, params_of, toy_content

        self.folder, self.server = folder, server
        self.content = toy_content({**EVERYTHING_ON, **(changes or {})})
        self.set_params({})
        with np.errstate(over="ignore"):
            mark_faces(draw_hr_faces(folder / "drawn"), folder / "hr")
            draw_hr_faces(folder / "test", people=3, first=30, role="test")
            draw_genuine_faces(folder / "lr")
        for name, model in vars(fresh_first_stage(params_of({**EVERYTHING_ON, **(changes or {})}))).items():
            (folder / name).mkdir()
            save_model(folder / name, model.networks, model.blueprints, model.info)

    def set_params(self, changes: Mapping[str, Any]) -> None:
        """The params of the following runs: the workshop's with (dotted) changes."""
        content = json.loads(json.dumps(self.content))
        for key, value in changes.items():
            *sections, name = key.split(".")
            inner = content
            for section in sections:
                inner = inner[section]
            inner[name] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")

    def command(self, stage: str, out: Path, root: Path = ROOT) -> list[str]:
        """A stage's script in the repository `root` and its arguments, as a user types them in the workshop's folder.

        A stage may have an item, as in `train_peer@vdsr`; finetune_joint alone is its variant `cr`.
        """
        stage, _, item = stage.partition("@")
        (out / "models").mkdir(exist_ok=True)
        for name in FIRST_STAGE.get(stage, ()):
            if not (out / "models" / name).is_symlink():
                (out / "models" / name).symlink_to(self.folder / name)
        words = [str(root / "stages" / f"{stage}.py"), "--faces", ".", "--models", f"{out}/models"]
        words += ["--curves", f"{out}/curves"]
        if stage == "train_centreface":
            return [*words, "--purpose", "centreface", "--test", "test", "--scores", f"{out}/scores.json"]
        named = {"train_peer": ["--peer", item], "finetune_joint": ["--variant", item or "cr"]}
        return [*words, *named.get(stage, [])]

    def start(
        self,
        stage: str,
        name: str,
        *plans: tuple[Any, ...],
        threads: int = 1,
        root: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> Run:
        """Start a stage, by the code in `root`; runs of one `name` share outputs and resume states."""
        out = self.folder / "runs" / name
        (out / ".dvc").mkdir(parents=True, exist_ok=True)
        log = out / f"log-{len(list(out.glob('log-*')))}.txt"
        argv, env = self.command(stage, out, root), {"DVC_ROOT": str(out), **cadence(5), **(env or {})}
        run = self.server.start(self.folder, log, *plans, env=env, threads=threads, root=root, argv=argv)
        run.out = out
        return run

    def run(self, stage: str, name: str, *plans: tuple[Any, ...], **options: Any) -> Run:
        return self.start(stage, name, *plans, **options).wait()

    def states(self, name: str) -> list[Path]:
        """The resume states of a run, oldest first, as their notes."""
        return sorted((self.folder / "runs" / name).glob(".dvc/tmp/charreg/*/*/state-*.json"))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true value of a question asked again and again."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = what()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {seconds} s in vain")


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def bn_workshop(server: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Every option that keeps something from step to step: batch norm, EMA, spectral norm, momentum, schedules."""
    return Workshop(tmp_path_factory.mktemp("bn"), server, BATCH_NORM)


@pytest.fixture
def workshop(server: ForkServer, tmp_path: Path) -> Workshop:
    """A workshop of one's own, without batch norm."""
    return Workshop(tmp_path, server, NO_BATCH_NORM)


if __name__ == "__main__":
    serve()
