"""The typed schema of params.yaml: unknown keys, wrong types and values out of range are refused by name."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from charreg.core.errors import CharregError


def _number(value: Any) -> Any:
    if isinstance(value, bool):  # pydantic would take true for 1
        raise ValueError("a number")
    return value


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the smaller number first")
    return pair


def written_as(pattern: str, words: str) -> AfterValidator:
    """A check that a string matches a pattern as a whole; `words` say what was wanted."""

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
HrRole = Literal["train", "test"]
LrRole = Literal["train", "web", "cctv"]


class Section(BaseModel):
    """A part of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# --- data ------------------------------------------------------------------------------------------------


class CameraOptions(Section):
    """A simulated camera; each pair is the range a photograph draws from, uniformly."""

    light: Range  # factor on the linear scene light
    cast: Weight  # standard deviation of the log gain of red and blue (white balance error)
    defocus: Range  # standard deviation of the blur, photograph pixels
    motion: Range  # length of the motion blur, photograph pixels
    noise: Range  # standard deviation of the sensor noise, grey levels
    jpeg: Annotated[tuple[Quality, Quality], Ascending]


class PackagedPhotosOptions(Section):
    """Crowd photographs composed of portraits and backgrounds that packages ship."""

    people: dict[Literal["hr_train", "hr_test", "train", "web", "cctv"], Count]
    photos: dict[LrRole, Count]
    size: tuple[Count, Count]  # width, height, px
    spacing: Count  # px between the centres of neighbouring faces
    face: Annotated[tuple[Side, Side], Ascending]  # longer side of a pasted face, px
    cameras: dict[str, CameraOptions]
    camera_of: dict[LrRole, list[str]]  # photographs take these in turn


class Source(Section):
    """Where the photographs or portraits of one role come from (`charreg.photos.sources`)."""

    source: str
    path: str
    simulated: bool = False
    split: Annotated[str, Field(min_length=1)] = "all"  # SPLITS says which there are


class HrSource(Source):
    source: Literal["packaged", "folder", "celeba", "helen", "bench"]
    crop: Literal["mtcnn", "fixed", "ready"] | None = None  # none: as hr_faces.crop


class ComposedPhotosOptions(HrSource):
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


class DetectionOptions(Section):
    """MTCNN on an enlarged pyramid."""

    scales: Annotated[list[Positive], Field(min_length=1)]
    min_face: Count  # px in the ENLARGED image
    thresholds: tuple[Share, Share, Share]
    margin: Weight  # the square is (1 + margin) times the longer side of the box
    max_pixels: Count  # of a photograph; larger ones are rejected before decoding


class LrFacesOptions(Section):
    min_score: Share
    face: Range  # longer side of the box in the ORIGINAL photograph, px
    match_iou: Share  # a detection takes the identity of the annotated box it overlaps by this much


class JitterOptions(Section):
    roll: Weight  # degrees, either way
    scale: Share
    shift: Share  # of the crop's side


class HrFacesOptions(Section):
    # mtcnn: as detected; fixed: CelebA's own place for a face, other sources as mtcnn; ready: the whole picture
    crop: Literal["mtcnn", "fixed", "ready"]
    fixed_side: Side  # px of CelebA's 178x218
    detection_scale: Positive
    match_side: Positive  # px; the crop is framed by the box found when the face is shrunk to this longer side
    min_score: Share
    copies: Count  # crops of each training portrait; the first is never jittered
    jitter: JitterOptions


class DeduplicateOptions(Section):
    near_duplicates: Literal["drop", "keep"]  # training faces that are test faces too; keep: they are only counted
    distance: Annotated[int, Number, Field(ge=0, le=60)]  # bits of 240 in which near-duplicates differ at most


class GeometryOptions(Section):
    max_shift: Positive  # px at 16x16 between the mean eye positions of artificial and genuine faces


# --- networks --------------------------------------------------------------------------------------------

Norm = Literal["bn", "none"]
Output = Literal["residual", "tanh"]


class SuperResolverOptions(Section):
    width: Count
    blocks: tuple[Count, Count, Count]
    norm: Norm
    output: Output


class RegulariserOptions(Section):
    width: Count
    blocks: Count
    norm: Norm
    output: Output


class DiscriminatorOptions(Section):
    width: Count
    pooling: Literal["late", "early"]
    spectral_norm: bool


class FeatureDiscriminatorOptions(Section):
    widths: Annotated[list[Count], Field(min_length=1)]
    input: Literal["l2", "raw"]
    spectral_norm: bool


class CentreFaceOptions(Section):
    width: Positive  # factor on every channel count
    embedding: Count
    batch_norm: bool


# --- training jobs ---------------------------------------------------------------------------------------


class CommonSchedule(Section):
    """What the sections of all trainings have in common; a section may set any of it otherwise."""

    batch: Count
    lr: Positive
    lr_decay: Literal["none", "cosine"]  # cosine: to a tenth over the last 30 percent
    ema: BelowOne  # 0: off
    clip_norm: Weight  # 0: off


class Schedule(CommonSchedule):
    """What the training loop needs of any job."""

    iterations: Count


class TrainCentrefaceOptions(Schedule):
    warmup: Share  # share of the run over which the rate rises to lr
    lambda_centre: Weight
    holdout_ids: Whole
    shift: Weight  # px; random translation of training faces, beyond the paper
    noise: Weight  # most sd of the noise on a training face, beyond the paper: else eq. 8 draws patterns phi_fr likes


class PretrainSrOptions(Schedule):
    adv_weight: Weight
    adv_warmup: Share
    d_lr_factor: Positive


class AdversarialOptions(Schedule):
    """What every job with a characteristic discriminator has."""

    d_lr_factor: Positive
    d_jitter: bool  # brightness, contrast and small shifts of what discriminators see


class PretrainInverseCrOptions(AdversarialOptions):
    content_weight: Weight  # of mse(P, A), beyond the paper; 0: off


class PretrainCrOptions(AdversarialOptions):
    lr_distance_faces: Annotated[int, Number, Field(ge=0, le=2000)]  # of the health signal; 0: off


class FinetuneJointOptions(PretrainCrOptions):
    pseudo_noise: Weight  # standard deviation of noise added to P before phi_cr sees it; 0: off
    adv_ramp: Share  # share of the run over which lambda_cr_gan rises from 0
    keep_sr_adv: Weight  # weight of the image GAN kept in stage 2; 0: eq. 9 to the letter
    sr_on_pseudo: bool


# --- the systems CR is compared with ----------------------------------------------------------------------


class PeerOptions(Schedule):
    """What every peer sets. The further keys of a section are checked by the job file that reads them."""


class PeerSection(PeerOptions):
    """A section of `peers` as params.yaml has it, before the peer's own file is asked (`charreg.peers.base`)."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


# --- measuring and reporting -----------------------------------------------------------------------------


class EvaluateOptions(Section):
    features: Literal["efficientnet_lite0", "inception"]
    weights: str  # of the inception network: a file
    sha256: str  # of that file
    resize: Count  # px the embedded feature network sees; inception always sees 299
    batch: Count
    bootstrap: Count
    kd_subsets: Count
    kd_subset_size: Count
    trials: Count


class ComplexityOptions(Section):
    batch: Count
    repeats: Count


class ReportOptions(Section):
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
    epoch_scale: Positive
    min_portraits: Count  # of a person in hr_roles.train; who has fewer teaches no recogniser
    methods: list[str]
    joint_variants: list[str]
    trained_peers: list[str]  # of `peers`; the others are there to be switched on
    packaged_photos: PackagedPhotosOptions
    composed_photos: dict[LrRole, ComposedPhotosOptions]
    hr_roles: dict[HrRole, HrSource]
    lr_roles: dict[LrRole, LrSource]
    detection: DetectionOptions
    lr_faces: LrFacesOptions
    hr_faces: HrFacesOptions
    deduplicate: DeduplicateOptions
    geometry: GeometryOptions
    super_resolver: SuperResolverOptions
    regulariser: RegulariserOptions
    discriminator: DiscriminatorOptions
    feature_discriminator: FeatureDiscriminatorOptions
    centreface: CentreFaceOptions
    schedule: CommonSchedule
    train_centreface: TrainCentrefaceOptions
    train_matcher: TrainCentrefaceOptions
    pretrain_sr: PretrainSrOptions
    pretrain_inverse_cr: PretrainInverseCrOptions
    pretrain_cr: PretrainCrOptions
    finetune_joint: FinetuneJointOptions
    peers: dict[str, PeerSection]
    evaluate: EvaluateOptions
    complexity: ComplexityOptions
    report: ReportOptions

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
            "methods": (*METHODS, *self.peers),
            "joint_variants": JOINT_VARIANTS,
            "trained_peers": tuple(self.peers),
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


TRAININGS = ("train_centreface", "train_matcher", "pretrain_sr", "pretrain_inverse_cr", "pretrain_cr", "finetune_joint")


class _Loader(yaml.SafeLoader):
    """Plain YAML whose numbers are those of YAML 1.2, as DVC reads them: 1e-3 is a number too."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+"), list("-+0123456789")
)


def parse_yaml(path: Path) -> Any:
    """The content of a file. Raises FileNotFoundError; CharregError, one line, for anything but plain YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CharregError(f"{path}: not plain YAML ({reason}); no tags, no aliases to objects") from None


def read_all_params(path: Path) -> Params:
    """Parse and check a whole parameter file.

    Raises CharregError, one line, that names the file, the key, what was found and what was wanted.
    """
    try:
        return check_params(parse_yaml(path), path)
    except FileNotFoundError:
        raise CharregError(f"{path}: not found, wanted the parameter file; run in the project's root") from None


def _with_schedule(content: dict[str, Any]) -> dict[str, Any]:
    """Parsed parameters, `schedule` filled in where a training's section says nothing else."""
    common, peers = content.get("schedule"), content.get("peers")
    common = common if isinstance(common, dict) else {}

    def filled(sections: dict[str, Any]) -> dict[str, Any]:
        return {name: common | part if isinstance(part, dict) else part for name, part in sections.items()}

    content = content | filled({name: content[name] for name in TRAININGS if name in content})
    return content | {"peers": filled(peers)} if isinstance(peers, dict) else content


def check_params(content: Any, path: Path) -> Params:
    """Check parsed parameters; `path` is the file a CharregError names."""
    if not isinstance(content, dict):
        raise CharregError(f"{path}: found {type(content).__name__}, wanted a mapping of parameters")
    try:
        return Params.model_validate(_with_schedule(content))
    except ValidationError as error:
        raise CharregError(f"{path}: " + "; ".join(fault_words(fault) for fault in error.errors()[:3])) from None


def fault_words(fault: Any, prefix: str = "") -> str:
    """What pydantic found wrong with a value, in this project's words: the key, what was found and what was wanted."""
    key = prefix + ".".join(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key, check its spelling"
    if fault["type"] == "missing":
        return f"{key}: {MISSING}"
    wanted = re.sub(r"^(Value error, |\w+ should (be|have) )| after validation.*", "", str(fault["msg"]))
    return f"{key}: found {fault['input']!r}, wanted {wanted}" if key else wanted


def read_params(path: Path, reads: Sequence[str]) -> Params:
    """The parameters named in `reads` (`seed`, `lr_roles.web`); touching any other raises AttributeError. What is read
    in part (`lr_roles.web`) is a plain mapping.

    The whole file is checked first, so a misspelt key is refused by whichever stage runs first.
    """
    everything = read_all_params(path)
    seen: dict[str, Any] = {}
    for key in reads:
        if key == "schedule":  # it is in the sections of the trainings
            continue
        *sections, last = key.split(".")
        value, place = everything, seen
        for section in sections:
            value, place = dict(value)[section], place.setdefault(section, {})
        place[last] = dict(value)[last]
    return Params.model_construct(**seen)


def scaled_iterations(schedule: Schedule, epoch_scale: float) -> int:
    """Iterations of a job after `epoch_scale`, which shortens or lengthens all jobs alike."""
    return max(1, round(schedule.iterations * epoch_scale))
