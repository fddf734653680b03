"""What the suite shares: THE toy params, drawn faces, first-stage models, and no network."""

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from charreg.core.faces import FaceSet, FaceWriter, Pixels, open_faces
from charreg.core.models import Blueprint, Model
from charreg.core.params import Params, check_params, parse_yaml
from charreg.core.resampling import resize_image
from charreg.cr.finetune_joint import VARIANTS, FirstStage
from charreg.cr.pretrain_cr import PretrainCr
from charreg.cr.pretrain_inverse_cr import PretrainInverseCr
from charreg.cr.pretrain_sr import PretrainSr
from charreg.cr.regulariser import Regulariser
from charreg.cr.train_centreface import TrainCentreface
from charreg.networks.centreface import CentreFace
from charreg.networks.discriminators import Discriminator
from charreg.networks.super_resolver import SuperResolver
from charreg.peers.base import PeerInputs, PeerJob, job_of
from charreg.training.loop import Training

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first: with two workers the other one does all the rest meanwhile."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


# --- no network ------------------------------------------------------------------------------------------


def _outside(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else str(host)
    if name in ("", "None", "localhost", "0.0.0.0", "::", socket.gethostname()):
        return False
    try:
        return not ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return True  # a name that would have to be looked up


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Let sockets reach AF_UNIX and loopback only (gloo, torchrun and multiprocessing need those)."""
    patch = pytest.MonkeyPatch()

    def guarded(name: str) -> Callable[..., Any]:
        original = getattr(socket.socket, name)

        def call(self: socket.socket, *args: Any) -> Any:
            address = args[-1]
            if self.family != socket.AF_UNIX and isinstance(address, tuple) and _outside(address[0]):
                pytest.fail(f"the suite needs no network, but something wanted {name} {address}")
            return original(self, *args)

        return call

    for name in ("connect", "connect_ex", "sendto"):
        patch.setattr(socket.socket, name, guarded(name), raising=False)

    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        if _outside(host):
            pytest.fail(f"the suite needs no network, but something looked up {host!r}")
        return look_up(host, *args, **options)

    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):  # for subprocesses: a closed port
        patch.setenv(variable, "http://127.0.0.1:9")
    patch.setenv("no_proxy", "localhost,127.0.0.1")
    patch.setenv("DVC_NO_ANALYTICS", "1")
    patch.setenv("HF_HUB_OFFLINE", "1")
    yield
    patch.undo()


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu() -> Iterator[None]:
    """Whatever the machine has, and photographs in one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARREG_DEVICE", "cpu")
        patch.setenv("CHARREG_EXECUTOR", "serial")
        yield


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tests share two cores; those about threads set their own number."""
    torch.set_num_threads(int(os.environ.get("CHARREG_TEST_THREADS", "1")))


# --- THE toy params --------------------------------------------------------------------------------------

SCHEDULE = {"iterations": 6, "batch": 4, "ema": 0.5}
JOBS = ("train_centreface", "pretrain_sr", "pretrain_inverse_cr", "pretrain_cr", "finetune_joint")
TOY: dict[str, Any] = {
    "packaged_photos": {
        "people": {"hr_train": 3, "hr_test": 2, "train": 2, "web": 2, "cctv": 2},
        "photos": {"train": 2, "web": 2, "cctv": 2},
    },
    "hr_faces": {"copies": 2},
    "super_resolver": {"width": 4, "blocks": [2, 1, 1]},
    "regulariser": {"width": 4, "blocks": 1},
    "discriminator": {"width": 4},
    "feature_discriminator": {"widths": [8, 8, 4, 4]},
    "centreface": {"width": 0.0625, "embedding": 8},
    **dict.fromkeys((*JOBS[:2], "train_matcher"), SCHEDULE),
    "pretrain_inverse_cr": SCHEDULE,
    "pretrain_cr": {**SCHEDULE, "lr_distance_faces": 0},
    "finetune_joint": {**SCHEDULE, "lr_distance_faces": 0, "pseudo_noise": 0.0, "sr_on_pseudo": False},
    "evaluate": {"batch": 8, "bootstrap": 5, "kd_subsets": 3, "kd_subset_size": 6, "trials": 2},
    "complexity": {"batch": 2, "repeats": 1},
    "report": {"faces": 2},
}


def merged(base: Any, changes: Any) -> Any:
    """`base` with `changes` put in, mapping by mapping; neither is touched."""
    if not (isinstance(base, Mapping) and isinstance(changes, Mapping)):
        return changes
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}


def toy_content(changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """params.yaml made tiny, as plain values; keys of `changes` may be dotted (`pretrain_sr.batch`)."""
    content = merged(parse_yaml(ROOT / "params.yaml"), TOY)
    for key, value in (changes or {}).items():
        *sections, last = key.split(".")
        inner = content
        for section in sections:
            inner = inner[section]
        inner[last] = value
    return dict(content)


def params_of(changes: Mapping[str, Any] | None = None, **top: Any) -> Params:
    """Toy params with changes: `params_of({"finetune_joint.adv_ramp": 0.5}, lambda_cr=0)`."""
    return check_params(toy_content({**(changes or {}), **top}), Path("params.yaml"))


@pytest.fixture
def make_params() -> Callable[..., Params]:
    """`params_of`."""
    return params_of


@pytest.fixture
def toy_params() -> Params:
    """THE toy params."""
    return params_of()


@pytest.fixture
def toy_file(tmp_path: Path) -> Path:
    """THE toy params as a params.yaml."""
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(toy_content()), encoding="utf-8")
    return path


# --- drawn faces -----------------------------------------------------------------------------------------


def smooth_images(count: int, seed: int, cells: int = 8, size: int = 64) -> Pixels:
    """Smooth random pictures, uint8 [count, size, size, 3], away from black and white so that nothing clips."""
    draws = np.random.default_rng(seed).integers(60, 196, (count, cells, cells, 3), dtype=np.uint8)
    return np.stack([resize_image(image, size) for image in draws])


def draw_face(person: int, photo: int, size: int = 64) -> Pixels:
    """A smooth 'face', uint8 [size, size, 3]: features and colours are the person's, light and place the photo's."""
    mine, here = np.random.default_rng([1, person]), np.random.default_rng([2, person, photo])
    skin, hair, wall = mine.uniform((150, 110, 90), (230, 190, 170)), mine.uniform(20, 120, 3), mine.uniform(60, 200, 3)
    width, height, eyes, mouth = mine.uniform((0.26, 0.34, 0.11, 0.07), (0.36, 0.44, 0.18, 0.15))
    x0, y0 = 0.5 + here.normal(0, 0.02, 2)
    y, x = (np.mgrid[:size, :size] + 0.5) / size

    def blob(centre_x: float, centre_y: float, radius_x: float, radius_y: float) -> Any:
        distance = ((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2
        return (1 / (1 + np.exp(np.minimum(6 * (distance - 1), 50))))[..., None]

    image = np.broadcast_to(wall, (size, size, 3))
    image = image + blob(x0, y0 - 0.1, width * 1.15, height) * (hair - image)
    image = image + blob(x0, y0 + 0.04, width, height) * (skin - image)
    for part_x, part_y, radius in ((-eyes, -0.06, 0.05), (eyes, -0.06, 0.05), (0, 0.22, mouth)):
        image = image + blob(x0 + part_x, y0 + part_y, radius, 0.035) * (0.3 * skin - image)
    return np.clip(image * here.uniform(0.85, 1.1), 0, 255).round().astype(np.uint8)


def bad_camera(image: Pixels, seed: int) -> Pixels:
    """A genuine LR face, uint8 [16, 16, 3]: blurred, dark and noisy."""
    draws = np.random.default_rng([3, seed])
    small = resize_image(np.asarray(Image.fromarray(image).reduce(6)), 16).astype(np.float64)
    return np.clip(small * draws.uniform(0.5, 0.7) + draws.normal(0, 6, small.shape), 0, 255).astype(np.uint8)


def draw_hr_faces(folder: Path, people: int = 4, photos: int = 4, first: int = 0, role: str = "train") -> FaceSet:
    """An HR FaceSet with artificial LR faces and identities."""
    folder.mkdir(parents=True)
    with FaceWriter(folder, 64, lr_size=16) as writer:
        writer.notes = {"domain": "artificial", "role": role}
        for person in range(first, first + people):
            for photo in range(photos):
                image = draw_face(person, photo)
                row = {"source": "drawn", "photo": f"{person}-{photo}.png", "identity": f"person{person:02}"}
                writer.add(image, {**row, "native_side": 64, "score": 1.0}, resize_image(image, 16))
    return open_faces(folder)


def draw_genuine_faces(folder: Path, people: int = 4, photos: int = 4, first: int = 50, role: str = "train") -> FaceSet:
    """A genuine LR FaceSet; photos of a person alternate between two albums."""
    folder.mkdir(parents=True)
    with FaceWriter(folder, 16) as writer:
        writer.notes = {"domain": "genuine", "role": role}
        for person in range(first, first + people):
            for photo in range(photos):
                image = bad_camera(draw_face(person, photo), 1000 * person + photo)
                row = {"source": "drawn", "photo": f"{person}-{photo}.jpg", "identity": f"person{person:02}"}
                writer.add(image, {**row, "album": f"album{photo % 2}", "native_side": 16, "score": 0.95})
    return open_faces(folder)


@pytest.fixture
def hr_faces(tmp_path: Path) -> FaceSet:
    """16 HR faces of 4 people, with their artificial LR faces."""
    return draw_hr_faces(tmp_path / "faces" / "hr_train")


@pytest.fixture
def genuine_faces(tmp_path: Path) -> FaceSet:
    """16 genuine LR faces of 4 other people."""
    return draw_genuine_faces(tmp_path / "faces" / "lr_train")


# --- models ----------------------------------------------------------------------------------------------


def rouse(network: torch.nn.Module, seed: int = 0, scale: float = 0.1) -> torch.nn.Module:
    """Small random values for layers that start at zero, so that no gradient is zero by initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return network


def fresh_model(blueprints: Mapping[str, Blueprint], seed: int = 0) -> Model:
    """A model of untrained, roused networks, as load_model would give it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = {name: rouse(blueprint.build(), seed).eval() for name, blueprint in blueprints.items()}
    return Model(networks, dict(blueprints), {"job": "drawn", "seed": 0}, f"{seed:064x}")


def fresh_first_stage(params: Params) -> FirstStage:
    """The models stage 2 starts from, untrained."""
    regulariser = Blueprint.of(Regulariser, params.regulariser.model_dump(mode="json"))
    judges = params.discriminator.model_dump(mode="json")
    return FirstStage(
        sr_module=fresh_model(
            {
                "super_resolver": Blueprint.of(SuperResolver, params.super_resolver.model_dump(mode="json")),
                "image_discriminator": Blueprint.of(Discriminator, {"size": 64, **judges}),
            },
            seed=1,
        ),
        characteristic=fresh_model(
            {"regulariser": regulariser, "discriminator": Blueprint.of(Discriminator, {"size": 16, **judges})}, seed=2
        ),
        inverse_cr=fresh_model({"inverse_regulariser": regulariser}, seed=3),
        centreface=fresh_model({"centreface": Blueprint.of(CentreFace, params.centreface.model_dump(mode="json"))}, 4),
    )


PEERS = ("vdsr", "srgan", "fsrnet", "sicnn", "cyclegan", "csri", "lrgan")
TRAININGS = ("centreface", "matcher", "sr_module", "inverse_cr", "characteristic", *VARIANTS, *PEERS)


def make_job(name: str, params: Params, hr: FaceSet, genuine: FaceSet) -> Any:
    """A training by its name, from roused networks where it starts from others; what it does not use is not there."""
    first, cpu = fresh_first_stage(params), torch.device("cpu")
    if name in ("centreface", "matcher"):
        return TrainCentreface(name, params, hr, cpu)
    if name == "sr_module":
        return PretrainSr(params, hr, cpu)
    if name == "inverse_cr":
        return PretrainInverseCr(params, hr, genuine, cpu)
    if name == "characteristic":
        inverse = first.inverse_cr.networks["inverse_regulariser"].train()  # the job has to freeze it
        return PretrainCr(params, hr, genuine, inverse, cpu)
    if name in VARIANTS:
        used = FirstStage(**{model: getattr(first, model) for model in VARIANTS[name].uses})
        return VARIANTS[name](params, hr, genuine, used, cpu)
    recogniser = first.centreface.networks["centreface"]
    assert isinstance(recogniser, CentreFace)
    return job_of(name)(params, PeerInputs(hr, genuine, recogniser), cpu)


def build_peer(job: type[PeerJob], options: Mapping[str, Any], inputs: PeerInputs, seed: int = 0) -> Any:
    """The job of a compared system with changed options."""
    changes = {f"peers.{job.name}.{key}": value for key, value in options.items()}
    return job(params_of(changes, seed=seed), inputs, torch.device("cpu"))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> PeerInputs:
    """8 HR faces of two people, 8 genuine faces of others, and a recogniser."""
    folder = tmp_path_factory.mktemp("eight")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        recogniser = CentreFace(0.0625, 8, batch_norm=True)
    return PeerInputs(draw_hr_faces(folder / "hr", 2), draw_genuine_faces(folder / "lr", 2), recogniser)


@pytest.fixture(scope="session")
def eight_faces(inputs: PeerInputs) -> FaceSet:
    return inputs.hr


# --- looking at a step -----------------------------------------------------------------------------------

State = dict[str, torch.Tensor]


def count(*networks: torch.nn.Module) -> int:
    """Parameters, trained or not."""
    return sum(parameter.numel() for network in networks for parameter in network.parameters())


def state_of(network: torch.nn.Module) -> State:
    """A copy of all weights and buffers."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(state: State, network: torch.nn.Module) -> bool:
    """Whether the network still is what it was, to the bit."""
    return all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def unchanged(state: State, network: torch.nn.Module) -> list[bool]:
    """Which of its parameters are what they were."""
    return [torch.equal(value, state[name]) for name, value in network.named_parameters()]


def graph_of(job: Any, step: int = 0) -> tuple[State, State]:
    """The losses of a step and what each optimiser would descend last, with their graphs; nothing is updated."""
    totals: State = {}
    job.descend = totals.__setitem__
    return job.step(step), totals


def reaches(loss: torch.Tensor, network: torch.nn.Module) -> bool:
    """Whether a loss has a gradient at any weight of a network."""
    parameters = list(network.parameters())
    if not (loss.requires_grad and parameters):
        return False
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in gradients)


def advanced(job: Any, steps: int = 0, first: int = 0) -> Training:
    """A training after some steps; without a number after all."""
    training = Training(job)
    training.done = first
    while training.done < first + (steps or job.iterations):
        training.advance()
    return training


class Recorder(torch.nn.Module):
    """A network that remembers its inputs."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.inputs: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.inputs.append(x)
        return self.network(x)  # type: ignore[no-any-return]
