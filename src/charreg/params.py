"""The typed schema of params.yaml: unknown keys, wrong types and values out of range are refused by name."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from charreg.errors import CharregError


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would take true for 1
        raise ValueError("a number")
    return value


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the smaller number first")
    return pair


def _written_as(pattern: str, words: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


Number, Ascending = BeforeValidator(_number), AfterValidator(_ascending)
Count = Annotated[int, Number, Field(ge=1)]
Whole = Annotated[int, Number, Field(ge=0)]
Positive = Annotated[float, Number, Field(gt=0)]
Weight = Annotated[float, Number, Field(ge=0)]
Share = Annotated[float, Number, Field(ge=0, le=1)]
BelowOne = Annotated[float, Number, Field(ge=0, lt=1)]
Side = Annotated[float, Number, Field(ge=1)]  # px
Quality = Annotated[int, Number, Field(ge=1, le=95)]  # JPEG; Pillow advises against more
Range = Annotated[tuple[Weight, Weight], Ascending]
Executor = Annotated[str, _written_as(r"serial|processes:[1-9][0-9]*|dask:.+", "serial, processes:N or dask:ADDRESS")]
Device = Annotated[str, _written_as(r"auto|cpu|cuda(:[0-9]+)?", "auto, cpu, cuda or cuda:N")]
HrRole = Literal["train", "test"]
LrRole = Literal["train", "web", "cctv"]


class Section(BaseModel):
    """A part of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --- data ------------------------------------------------------------------------------------------------


class Camera(Section):
    """A simulated camera; each pair is the range a photograph draws from, uniformly."""

    light: Range  # factor on the linear scene light
    cast: Weight  # standard deviation of the log gain of red and blue (white balance error)
    defocus: Range  # standard deviation of the blur, photograph pixels
    motion: Range  # length of the motion blur, photograph pixels
    noise: Range  # standard deviation of the sensor noise, grey levels
    jpeg: Annotated[tuple[Quality, Quality], Ascending]


class PackagedPhotos(Section):
    """Crowd photographs composed of portraits and backgrounds that packages ship."""

    people: dict[Literal["hr_train", "hr_test", "train", "web", "cctv"], Count]
    photos: dict[LrRole, Count]
    size: tuple[Count, Count]  # width, height, px
    spacing: Count  # px between the centres of neighbouring faces
    face: Annotated[tuple[Side, Side], Ascending]  # longer side of a pasted face, px
    cameras: dict[str, Camera]
    camera_of: dict[LrRole, list[str]]  # photographs take these in turn


class Source(Section):
    """Where the photographs or portraits of one role come from (`charreg.sources`)."""

    source: str
    path: str
    simulated: bool = False
    split: Annotated[str, Field(min_length=1)] = "all"  # SPLITS says which there are


class HrSource(Source):
    source: Literal["packaged", "folder", "celeba", "helen", "bench"]
    crop: Literal["mtcnn", "fixed", "ready"] | None = None  # none: as hr_faces.crop


class ComposedPhotos(HrSource):
    """Crowd photographs as packaged_photos makes them, of portraits of your own."""

    photos: Count


class LrSource(Source):
    source: Literal["packaged", "folder", "wider_face", "pipa", "surveillance", "bench"]
    exclude: Annotated[str, Field(min_length=1)]  # a file: faces to leave out, made by looking at the contact sheet
    boxes: Literal["detector", "annotation", "ready"] = "detector"  # ready: every picture is the square of one face
    stride: Count = 1  # of surveillance: every so-many-th frame


# Splits by source, beside `all`; a folder's are those its boxes.csv names.
SPLITS = {
    "celeba": ("train", "val", "test"),
    "wider_face": ("train", "val", "test"),
    "pipa": ("leftover", "train", "val", "test"),
    "bench": (
        *("hr_train", "hr_train/train", "hr_train/set_aside", "hr_test", "hr_test/helen", "hr_test/celebrities"),
        *("lr_web", "lr_web/train", "lr_web/validation", "lr_web/test", "lr_cctv"),
    ),
}


def source_faults(source: HrSource | LrSource) -> dict[str, str]:
    """Options of a role that its source does not know: what was found and wanted, by key."""
    name, faults = source.source, {}
    splits = SPLITS["bench"] if name == "bench" else ("all", *SPLITS.get(name, ()))
    if name != "folder" and source.split not in splits:
        faults["split"] = f"found {source.split!r}, wanted {' or '.join(splits)} for source {name}"
    if isinstance(source, HrSource) and source.crop == "fixed" and name != "celeba":
        faults["crop"] = f"found 'fixed', wanted mtcnn or ready for source {name}; only CelebA's portraits are aligned"
    if isinstance(source, LrSource) and source.stride != 1 and name != "surveillance":
        faults["stride"] = f"found {source.stride}, wanted 1 for source {name}; surveillance alone has frames"
    return faults


class Detection(Section):
    """MTCNN on an enlarged pyramid (methods: genuine LR face extraction)."""

    scales: Annotated[list[Positive], Field(min_length=1)]
    min_face: Count  # px in the ENLARGED image
    thresholds: tuple[Share, Share, Share]
    merge_iou: Share
    margin: Weight  # the square is (1 + margin) times the longer side of the box
    tile: Count  # px; larger (enlarged) images are cut into tiles
    tile_overlap: BelowOne
    max_pixels: Count  # of a photograph; larger ones are rejected before decoding


class LrFaces(Section):
    size: Literal[16]  # the networks enlarge 16x16 to 64x64
    min_score: Share
    face: Range  # longer side of the box in the ORIGINAL photograph, px
    executor: Executor
    match_iou: Share  # a detection takes the identity of the annotated box it overlaps by this much


class Jitter(Section):
    roll: Weight  # degrees, either way
    scale: Share
    shift: Share  # of the crop's side


class HrFaces(Section):
    size: Literal[64]
    lr_size: Literal[16]
    # mtcnn: as detected; fixed: CelebA's own place for a face, other sources as mtcnn; ready: the whole picture
    crop: Literal["mtcnn", "fixed", "ready"]
    fixed_side: Side  # px of CelebA's 178x218
    detection_scale: Positive
    match_side: Positive  # px; the crop is framed by the box found when the face is shrunk to this longer side
    min_score: Share
    fallback: Literal["skip", "centre"]  # what to do with a portrait without a detected face
    copies: Count  # crops of each training portrait; the first is never jittered
    jitter: Jitter
    executor: Executor


class Deduplicate(Section):
    near_duplicates: Literal["drop", "keep"]  # training faces that are test faces too; keep: they are only counted
    distance: Annotated[int, Number, Field(ge=0, le=60)]  # bits of 240 in which near-duplicates differ at most


class Geometry(Section):
    max_shift: Positive  # px at 16x16 between the mean eye positions of artificial and genuine faces


# --- networks --------------------------------------------------------------------------------------------

Norm = Literal["bn", "none"]
Output = Literal["residual", "tanh"]


class SuperResolver(Section):
    width: Count
    blocks: tuple[Count, Count, Count]
    norm: Norm
    output: Output


class Regulariser(Section):
    width: Count
    blocks: Count
    norm: Norm
    output: Output


class Discriminator(Section):
    width: Count
    pooling: Literal["late", "early"]
    spectral_norm: bool


class FeatureDiscriminator(Section):
    widths: Annotated[list[Count], Field(min_length=1)]
    input: Literal["l2", "raw"]
    spectral_norm: bool


class CentreFace(Section):
    width: Positive  # factor on every channel count
    embedding: Count
    batch_norm: bool


# --- training jobs ---------------------------------------------------------------------------------------


class Schedule(Section):
    """What the training loop needs of any job."""

    iterations: Count
    batch: Count
    lr: Positive
    lr_decay: Literal["none", "cosine"]  # cosine: to a tenth over the last 30 percent
    ema: BelowOne  # 0: off
    clip_norm: Weight  # 0: off
    log_every: Count
    health_every: Count
    sheet_every: Count
    checkpoint_every: Count


class Betas(Section):
    betas: tuple[BelowOne, BelowOne]


class TrainCentreface(Schedule):
    momentum: Share
    weight_decay: Weight
    warmup: Share  # share of the run over which the rate rises to lr
    milestones: list[Share]  # shares of the run after which the rate drops to a tenth
    lambda_centre: Weight
    alpha: Share
    holdout_ids: Whole
    shift: Weight  # px; random translation of training faces, beyond the paper
    noise: Weight  # most sd of the noise on a training face, beyond the paper: else eq. 8 draws patterns phi_fr likes


class PretrainSr(Schedule, Betas):
    adv_weight: Weight
    adv_warmup: Share
    d_lr_factor: Positive


class Adversarial(Schedule, Betas):
    """Switches of every job with a characteristic discriminator (methods: stabilisers)."""

    d_lr_factor: Positive
    r1_gamma: Weight  # 0: off
    r1_every: Count
    label_smoothing: Share  # 0: off
    d_noise: Weight
    lr_distance_faces: Annotated[int, Number, Field(ge=0, le=2000)]  # of the health signal; 0: off
    pseudo_noise: Weight  # standard deviation of noise added to P before phi_cr sees it; 0: off
    d_jitter: bool  # brightness, contrast and small shifts of what discriminators see


class PretrainInverseCr(Adversarial):
    content_weight: Weight  # of mse(P, A), beyond the paper; 0: off


class PretrainCr(Adversarial):
    identity_weight: Weight  # of mse(R, G), beyond the paper; 0: off


class FinetuneJoint(Adversarial):
    adv_ramp: Share  # share of the run over which lambda_cr_gan rises from 0
    keep_sr_adv: Weight  # weight of the image GAN kept in stage 2; 0: eq. 9 to the letter
    sr_adv_on_regulated: bool  # whether that GAN judges phi_sr(R) beside phi_sr(A)
    detach_ul_target: bool
    sr_on_pseudo: bool
    ds: Literal["bicubic_aa", "area"]


# --- the systems CR is compared with ----------------------------------------------------------------------


class Peer(Schedule):
    """What every peer sets. A method added in one job file checks the further keys of its section itself."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    @property
    def further(self) -> dict[str, Any]:
        """The keys of an added method that are its own."""
        return self.model_extra or {}


class Vdsr(Peer, Betas):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: Count
    depth: Annotated[int, Number, Field(ge=3)]
    colour: Literal["rgb", "y"]
    optim: Literal["adam", "sgd_clip"]  # sgd_clip: the original's; lr is then its 0.1
    momentum: Share  # this and the next two: of sgd_clip
    weight_decay: Weight
    clip_theta: Positive  # gradients are cut to [-theta/lr, theta/lr]


class Srgan(Peer, Betas):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: Count
    blocks: Count
    norm: Norm
    output: Output
    d_width: Count  # channels of the discriminator's first layer
    d_pooling: Literal["flatten", "global"]
    gan_share: Share  # of the iterations; the first part is SRResNet's
    gan_lr_factor: Positive  # on lr in the rest
    adv_weight: Weight
    content_weight: Weight
    pixel_weight: Weight
    vgg: str  # a safetensors or torch state file of VGG19; empty: the recogniser's features take its place
    vgg_sha256: str
    vgg_layer: Literal[54, 22]
    d_lr_factor: Positive


class Fsrnet(Peer):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: Count
    encoder_blocks: Count
    coarse_blocks: Count
    decoder_blocks: Count
    hourglasses: Count
    depth: Annotated[int, Number, Field(ge=1, le=5)]  # of an hourglass: halvings of the 32x32 maps
    output: Literal["residual", "linear"]
    fine_weight: Weight
    prior_weight: Weight
    sigma: Positive  # px of the landmark heat maps at 32x32
    gan: bool  # FSRGAN
    adv_weight: Weight
    content_weight: Weight


class Sicnn(Peer):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: Positive  # factor on every channel count of CNN_H
    recogniser_width: Positive  # factor on every channel count of CNN_R
    recogniser_layers: Literal[20, 36]
    embedding: Count
    alpha: Weight  # of the identity loss
    margin: Literal[4]  # m of A-Softmax
    pretrain_share: Share  # of the iterations that train CNN_R and CNN_H apart
    recogniser_lr: Positive
    joint_recogniser_lr: Positive  # in the domain-integrated phase
    milestones: list[Share]  # shares of the first phase after which CNN_R's rate drops to a tenth
    joint_milestones: list[Share]  # likewise of the domain-integrated phase
    output: Literal["tanh", "residual"]
    optim: Literal["adam", "sgd"]  # of CNN_H
    betas: tuple[BelowOne, BelowOne]
    momentum: Share
    weight_decay: Weight


class Cyclegan(Peer, Betas):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: Count
    blocks: Count
    d_width: Count
    n_layers: Literal[2, 3]  # of the patch discriminators
    cycle_weight: Weight
    identity_weight: Weight  # a share of cycle_weight
    history: Whole  # images the discriminators remember; 0: off
    decay_from: Share  # share of the run after which the rate falls to 0 on a line


def _leaving_some(shares: tuple[float, float]) -> tuple[float, float]:
    if sum(shares) >= 1:
        raise ValueError("two shares whose sum is below 1")
    return shares


class Csri(Peer, Betas):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: Count  # of its VDSR
    depth: Annotated[int, Number, Field(ge=3)]
    lambda_sr: Weight  # on the mean squared error in [-1, 1]
    native_ids: Literal["auto", "manifest", "pseudo", "none"]  # auto: manifest where it names people, else pseudo
    cluster_size: Count  # pseudo: faces a cluster has on average
    smallest_cluster: Count
    # shares of the iterations: SR alone, then the synthetic branch; the rest trains both
    shares: Annotated[tuple[Share, Share], AfterValidator(_leaving_some)]
    # beginnings of native identities to leave out (those of the test sets)
    exclude_identities: list[Annotated[str, Field(min_length=1)]]


class Lrgan(Peer, Betas):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    width: Count
    blocks: tuple[Count, Count, Count]  # of the low-to-high generator
    norm: Norm
    output: Output
    d_width: Count
    d_pooling: Literal["late", "early"]
    pixel_weight: Weight
    gan_weight: Weight
    n_critic: Count  # discriminator steps for one of the generator
    order: Literal["together", "halves"]  # halves: high-to-low alone for the first half


class Peers(Section):
    """One section per peer to train; further names are methods added in a job file of their own."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Peer]

    vdsr: Vdsr | None = None
    srgan: Srgan | None = None
    fsrnet: Fsrnet | None = None
    sicnn: Sicnn | None = None
    cyclegan: Cyclegan | None = None
    csri: Csri | None = None
    lrgan: Lrgan | None = None

    def __getitem__(self, name: str) -> Peer:
        """The options of a declared peer. Raises KeyError."""
        options: Peer | None = dict(self)[name]
        if options is None:
            raise KeyError(name)
        return options

    def names(self) -> list[str]:
        """The peers that are declared."""
        return [name for name, options in dict(self).items() if options is not None]


# --- measuring and reporting -----------------------------------------------------------------------------


class Evaluate(Section):
    features: Literal["efficientnet_lite0", "inception"]
    weights: str  # of the inception network: a file
    weights_sha256: str
    resize: Count  # px the embedded feature network sees; inception always sees 299
    batch: Count
    bootstrap: Count
    kd_subsets: Count
    kd_subset_size: Count
    trials: Count
    cross_album: Literal["prefer", "ignore"]
    match_input: Literal["embedding+mirror", "embedding"]


class Complexity(Section):
    batch: Count
    repeats: Count


class Report(Section):
    faces: Annotated[int, Number, Field(ge=1, le=8)]  # per set and figure
    title: str


class Params(Section):
    """All of params.yaml. A stage sees only the keys it declares (`read_params`)."""

    seed: Whole  # of the data and of the measurements
    seeds: Annotated[list[Whole], Field(min_length=1)]  # of the trainings: everything trained repeats for each
    peer_seeds: list[Whole]  # of trained_peers, where they are not to repeat as often; empty: `seeds`
    lambda_gan: Weight
    lambda_cr: Weight
    lambda_cr_sr: Weight
    lambda_cr_gan: Weight
    launch: str
    device: Device
    epoch_scale: Positive
    min_portraits: Count  # of a person in hr_roles.train; who has fewer teaches no recogniser
    methods: list[str]
    joint_variants: list[str]
    trained_peers: list[str]  # of `peers`; the others are there to be switched on
    packaged_photos: PackagedPhotos
    composed_photos: dict[LrRole, ComposedPhotos]
    hr_roles: dict[HrRole, HrSource]
    lr_roles: dict[LrRole, LrSource]
    detection: Detection
    lr_faces: LrFaces
    hr_faces: HrFaces
    deduplicate: Deduplicate
    geometry: Geometry
    super_resolver: SuperResolver
    regulariser: Regulariser
    discriminator: Discriminator
    feature_discriminator: FeatureDiscriminator
    centreface: CentreFace
    train_centreface: TrainCentreface
    train_matcher: TrainCentreface
    pretrain_sr: PretrainSr
    pretrain_inverse_cr: PretrainInverseCr
    pretrain_cr: PretrainCr
    finetune_joint: FinetuneJoint
    peers: Peers
    evaluate: Evaluate
    complexity: Complexity
    report: Report

    @model_validator(mode="after")
    def _roles(self) -> "Params":
        for key, roles in (("hr_roles", HrRole), ("lr_roles", LrRole), ("composed_photos", None)):
            sources: dict[str, HrSource | LrSource] = getattr(self, key)
            for role in get_args(roles):
                if role not in sources:
                    raise ValueError(f"{key}.{role}: {MISSING}")
            for role, source in sources.items():
                for option, fault in source_faults(source).items():
                    raise ValueError(f"{key}.{role}.{option}: {fault}")
        return self

    @model_validator(mode="after")
    def _names(self) -> "Params":
        lists = {
            "methods": (*METHODS, *self.peers.names()),
            "joint_variants": JOINT_VARIANTS,
            "trained_peers": tuple(self.peers.names()),
        }
        for key, allowed in lists.items():
            names = getattr(self, key)
            faults = [f"{name!r}" for name in names if name not in allowed]
            faults += [f"{name!r} twice" for i, name in enumerate(names) if name in names[:i]]
            if faults or not (names or key == "trained_peers"):
                found = faults[0] if faults else "none"
                raise ValueError(f"{key}: found {found}, wanted different names out of {', '.join(allowed)}")
        return self


MISSING = "missing key, it has to be set"
JOINT_VARIANTS = ("cr", "wo_cr", "wo_ul", "wo_sr_ri_joint")
METHODS = ("bicubic", "sr_module", "cr_stage1", *JOINT_VARIANTS)


def _parse(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CharregError(f"{path}: not found, wanted the parameter file; run in the project's root") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CharregError(f"{path}: not plain YAML ({reason}); no tags, no aliases to objects") from None


def read_all_params(path: Path) -> Params:
    """Parse and check a whole parameter file.

    Raises CharregError, one line, that names the file, the key, what was found and what was wanted.
    """
    return check_params(_parse(path), path)


def check_params(content: Any, path: Path) -> Params:
    """Check parsed parameters; `path` is the file a CharregError names."""
    if not isinstance(content, dict):
        raise CharregError(f"{path}: found {type(content).__name__}, wanted a mapping of parameters")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise CharregError(f"{path}: " + "; ".join(_fault(fault) for fault in error.errors()[:3])) from None


def _fault(fault: Any) -> str:
    key = ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key, check its spelling"
    if fault["type"] == "missing":
        return f"{key}: {MISSING}"
    wanted = re.sub(r"^(Value error, |\w+ should (be|have) )| after validation.*", "", str(fault["msg"]))
    return f"{key}: found {fault['input']!r}, wanted {wanted}" if key else wanted


def read_params(path: Path, reads: Sequence[str]) -> Params:
    """The parameters named in `reads` (`seed`, `lr_roles.web`); touching any other raises AttributeError.

    The whole file is checked first, so a misspelt key is refused by whichever stage runs first.
    """
    everything = read_all_params(path)
    seen: dict[str, Any] = {}
    for key in reads:
        section, _, part = key.partition(".")
        value = getattr(everything, section)
        if part:
            seen.setdefault(section, {})[part] = dict(value)[part]
        else:
            seen[section] = value
    return Params.model_construct(**seen)


def scaled_iterations(schedule: Schedule, epoch_scale: float) -> int:
    """Iterations of a job after `epoch_scale`, which shortens or lengthens all jobs alike."""
    return max(1, round(schedule.iterations * epoch_scale))
