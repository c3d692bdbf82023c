"""The sections of the configuration: one dataclass each, every field documented and bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, field, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from hf_free.config.yaml_reading import as_texts, is_null, meant
from hf_free.runtime.text import parse_bytes

STRICT = ConfigDict(extra="forbid", validate_assignment=False, allow_inf_nan=False)


def _no(value: object) -> object:
    """YAML 1.1 reads an unquoted `no` as False."""
    return "no" if value is False else value


def as_list(value: object) -> object:
    """A single name stands for a list of it."""
    return [value] if isinstance(value, str) else value


INVERSION_TERMS = (
    "cross_entropy",
    "batchnorm",
    "canvas_distance",
    "total_variation",
    "feature_norm",
    "donor_batchnorm",
    "similarity_hinge",
    "adversarial",
)
"""Terms of the inversion loss; each has a weight of the same name in `five`."""


Tracker = Literal["tensorboard", "trackio", "wandb", "mlflow", "aim", "clearml", "comet_ml", "dvclive", "swanlab"]
"""Trackers of Accelerate."""

View = Literal["identity", "flip", "up_left", "up_right", "down_left", "down_right"]
"""What a learner may look at beside the picture as it is (`hf_free.data.images.VIEWS`)."""


class _Section:
    """A section that remembers which keys were given, so that a method's constants replace only the others."""

    @model_validator(mode="wrap")
    @classmethod
    def _remember_given(cls, values: object, build: Callable[[object], object]) -> Any:
        section = build(values)
        given = (values.kwargs or {}) if isinstance(values, ArgsKwargs) else values
        if isinstance(given, Mapping):  # else a section that is there already, which knows
            object.__setattr__(section, GIVEN, frozenset(map(str, given)))
        return section


GIVEN = "_given"
"""Attribute of a section with the keys that were given."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FiveConfig(_Section):
    """FIVE, the inversion: a meta-generator that adapts to any teacher in a few inner steps."""

    inner_steps: int = Field(default=5, ge=1, le=10_000)
    """Inner steps k per teacher (FREE: 5)."""
    inner_lr: float = Field(default=3e-3, gt=0, lt=10)
    """Adam learning rate of the generator in the inner loop."""
    latent_lr: float = Field(default=1e-2, ge=0, lt=10)
    """Adam learning rate of the latents in the inner loop; 0 keeps them fixed."""
    pixel_lr: float = Field(default=0.1, gt=0, lt=10)
    """Adam learning rate of pixels that are optimized themselves, in normalized space (`--inversion pixels`, `purer`).
    DeepInversion's public code for CIFAR-10: 0.1; PURER: 0.25."""
    outer_lr: float = Field(default=3e-3, gt=0, lt=10)
    """Adam learning rate of the meta-generator."""
    teachers_per_step: int = Field(default=4, ge=1, le=1024)
    """Teachers per outer step (FREE: 4)."""
    images_per_class: int = Field(default=20, ge=2, le=4096)
    """Images recovered per class (FREE: 20)."""
    max_classes: int = Field(default=20, ge=2, le=1024)
    """Most classes per task; of heads with more classes random subsets are drawn."""
    latent_dim: int = Field(default=256, ge=1, le=8192)
    """Width of the latent z (FREE: 256)."""
    width: int = Field(default=32, ge=4, le=1024)
    """Channels of the generator's last hidden layer (FREE: 64; 32 takes half the time and recovers as well)."""
    conditional: bool = True
    """Whether the generator sees the class label beside z."""
    canvas: bool = True
    """Whether the generator paints over a drawn picture, which keeps the pictures of a class apart."""
    match_canvas: bool = True
    """Whether each canvas is given to the class that the teacher already predicts for it."""
    cross_entropy: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy to the target label (FREE: 1)."""
    batchnorm: float = Field(default=100.0, ge=0)
    """Weight of the distance to the teacher's BatchNorm statistics; 0 as released, 1 in TGR, 10 in Fast-Datafree."""
    recognition_first: bool = True
    """Whether the weight of the BatchNorm distance is multiplied by the (geometric mean) probability that the teacher
    gives the target classes: the statistics count once it recognizes the pictures, for which deeper teachers need more
    of the few steps."""
    canvas_distance: float = Field(default=5.0, ge=0)
    """Weight of the mean squared difference between a picture and its canvas, which keeps the generator from painting
    over everything in glaring colors; 20 suits photographs, and costs other pictures more than it gains there."""
    adversarial: float = Field(default=1.0, ge=0)
    """Weight of the disagreement with the meta-learner (FREE: 1)."""
    total_variation: float = Field(default=0.0, ge=0)
    """Weight of the total variation, for teachers without BatchNorm; in `purer` for all teachers."""
    feature_norm: float = Field(default=0.0, ge=0)
    """Weight of the magnitude of the teacher's features, for teachers without BatchNorm."""
    donor_batchnorm: float = Field(default=1.0, ge=0)
    """Weight of the BatchNorm distance to another teacher of the pool, for teachers without BatchNorm."""
    similarity_hinge: float = Field(default=0.0, ge=0)
    """Weight of the hinge that keeps the pictures of a class apart in the teacher's features."""
    similarity_margin: float = Field(default=0.3, gt=0, le=2)
    """Cosine distance beyond which the hinge leaves two pictures alone (real pictures: 0.3 on average)."""
    augment: bool = True
    """Random shift and flip of each image before the teacher sees it."""
    flip: bool = True
    """Whether that augmentation flips images; false for writing and signs, which mean something else when mirrored (as
    in `learner.views`)."""
    recover_share: float = Field(default=0.6, gt=0, le=1)
    """Share of the run, from its start, in which tasks are recovered; the rest learns from the memory alone."""
    min_teacher_accuracy: float = Field(default=0.5, ge=0, le=1)
    """Smallest share of a recovered task's images that its teacher must recognize; other tasks are left out."""
    min_diversity: float = Field(default=0.01, ge=0, le=2)
    """Smallest mean cosine distance, in the teacher's features, between a recovered task's pictures of one class;
    other tasks are left out. Collapsed tasks have down to 0.004, tasks over canvases 0.035 and more."""

    @model_validator(mode="after")
    def _pulls_somewhere(self) -> FiveConfig:
        if not any(getattr(self, name) for name in INVERSION_TERMS):
            raise ValueError(f"at least one weight of the inversion loss above 0: {', '.join(INVERSION_TERMS)}")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MemoryConfig(_Section):
    """The memory of recovered tasks."""

    max_images: int = Field(default=40_000, ge=1)
    """Most images held; the oldest tasks make room for new ones."""
    teachers_per_image: int | None = Field(default=25, ge=1)
    """Number of teachers that are asked about each image: the one it was recovered from, and others in turn, so that
    each is asked about equally many; null asks all. With more teachers than this, time and memory hardly grow."""
    drawn_per_step: int = Field(default=512, ge=0, le=65536)
    """Pictures drawn by a program (leaves, emblems, strokes) each step while tasks are recovered; the teachers are
    asked about them too."""
    pictures: str | None = None
    """Folder of pictures of your own, without labels, that stand for half of the drawn ones. The learner is not
    data-free then, and its card says so."""
    held_out_images: int = Field(default=512, ge=2)
    """Most pictures kept aside to choose the best checkpoint with; one for every four that the memory was given."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BellConfig(_Section):
    """BELL, the meta-learner's training."""

    objective: Literal["distill", "align", "regularize", "episodes", "bilevel"] = "distill"
    """`distill`: `memory.teachers_per_image` teachers asked about every image; `align`: the paper's sequential steps
    and replay; `regularize`: TGR's steps on groups of unlike teachers, and replay; `episodes`: PURER's second-order
    MAML on recovered pictures alone; `bilevel`: BiDf-MKD's second-order distillation of support and query, and
    replay."""
    lr: float = Field(default=1e-2, gt=0, lt=10)
    """Peak Adam learning rate of the meta-learner (outer step)."""
    matrix_lr: float = Field(default=0.03, ge=0, lt=10)
    """Peak Muon learning rate of linear layers and convolutions in `distill`; 0 leaves them to AdamW as well."""
    inner_lr: float = Field(default=1e-3, gt=0, lt=10)
    """Adam learning rate of the sequential inner steps (FREE: 1e-3)."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Decoupled weight decay of the outer optimizer."""
    batch_size: int = Field(default=256, ge=2, le=65536)
    """Images per distillation step."""
    updates_per_step: int = Field(default=10, ge=1, le=10_000)
    """Updates per step in `distill` and `episodes`."""
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=1024)
    """Passes that each process takes for its part of a batch of `distill`, whose gradients are added up: less memory,
    the same batch. BatchNorm sees each pass by itself. Where memory is short there are more by themselves."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Norm that the gradient of an outer update of the learner is cut down to, over all its weights together; null
    leaves it as it is."""
    shard_learner: bool = False
    """Whether several processes share out the weights, gradients and moments that the learner of `distill` is trained
    with (FSDP2), for learners that do not fit; each keeps one whole copy of the weights, to be asked and saved."""
    interpolation: float = Field(default=1.0, ge=0)
    """Step size eps of the plain interpolation theta += eps (theta' - theta)."""
    temperature: float = Field(default=1.0, gt=0)
    """Softmax temperature of the distillation divergences."""
    replay_tasks: int = Field(default=10, ge=0, le=1024)
    """Cross-task episodes per update (FREE: 10, TGR: 16, PURER: 4)."""
    replay_patience: int = Field(default=10, ge=1)
    """Replay updates without a better query accuracy before the next epoch (FREE: 10, TGR: 4); in `episodes`, before
    the pictures are made harder once (PURER: 6)."""
    replay_inner_steps: int = Field(default=5, ge=1, le=100)
    """Inner SGD steps of a replay episode (FREE: 5)."""
    replay_inner_lr: float = Field(default=0.01, gt=0)
    """Inner SGD learning rate of a replay episode (FREE: 0.01)."""
    distilled_steps: int = Field(default=10, ge=1, le=100)
    """Inner steps toward a teacher's answers about its support in `bilevel` (BiDf-MKD: 10), at `replay_inner_lr`."""
    groups: int = Field(default=5, ge=1, le=1024)
    """Groups of unlike teachers in `regularize`, of which each step takes one (TGR: 5); 1 does without."""
    dispersion: float = Field(default=1e-3, ge=0, lt=1)
    """TGR's lambda: `regularize` adds twice this, times half the mean squared distance of the teachers' gradients to
    their mean, to the loss (TGR: 0.001)."""
    second_order: bool = False
    """Whether `regularize` takes TGR's step with its second derivatives, as released; else a first-order step with
    lambda doubled, in a quarter of the time: the same up to lambda squared for smooth networks, and about the same
    direction where ReLUs switch on the way."""
    challenge: float = Field(default=0.0, ge=0)
    """Factor on the learner's loss on an episode of live pictures. Where the learner has nothing left to learn from
    them, the pictures are optimized to raise that loss (`purer`: 10)."""
    challenge_after: int = Field(default=4000, ge=0)
    """Updates of the learner before pictures are first made harder in this way (PURER: 4,000)."""
    n_way: int = Field(default=5, ge=2, le=1024)
    """Classes of a cross-task episode."""
    k_shot: int = Field(default=1, ge=1, le=1024)
    """Support images per class of a cross-task episode."""
    n_query: int = Field(default=15, ge=1, le=1024)
    """Query images per class of a cross-task episode."""
    match_label_names: bool = False
    """Whether classes of one name are one class of the cross-task episodes, with the pictures of all their teachers;
    otherwise, and for classes without a name, the teachers are asked, and classes that seem to be the same
    are never in one episode."""

    @property
    def distills(self) -> bool:
        """Whether the learner predicts the teachers' answers; else it learns by episodes."""
        return self.objective == "distill"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LearnerConfig(_Section):
    """The meta-learner: its backbone and how it adapts."""

    backbone: str = "conv4_64"
    """A timm model name; `conv4_32`, `conv4_64`, `conv4_384`, `resnet10_small`, `resnet12_small`, `resnet18_small` are
    ours."""
    image_size: int = Field(default=32, ge=8, le=1024)
    """Height and width the learner sees."""
    channels: Literal[1, 3] = 3
    """Channels the learner sees."""
    init_from: str | None = None
    """timm weights (`timm:NAME`; not data-free then), or a learner that teachers are added to (Hub id or folder)."""
    views: Annotated[list[View], BeforeValidator(as_list)] = field(default_factory=lambda: ["identity", "flip"])
    """Views of a picture whose predictions are averaged when the learner is used; each takes a pass. Leave out `flip`
    for writing. The others are moved to a corner by a tenth of the picture."""
    head: Literal["nearest_mean", "ridge", "logistic", "anil", "maml"] = "ridge"
    """How the learner adapts to a support set."""
    calibration_steps: int = Field(default=0, ge=0, le=1000)
    """Steps after those of the head `maml`, in which the adapted network is calibrated by pictures recovered from
    itself (PURER's ICFIL); other heads do without."""
    gating: bool = True
    """Whether the learner of `distill` weighs its teachers in each episode: by how much the support looks like the
    pictures recovered from them. Old teachers of a learner that is continued count as they are. The head `maml` and
    the defect `transductive_batchnorm` do without."""
    whitening: float | None = Field(default=60.0, gt=0)
    """A direction in which the embeddings of recovered pictures vary by this many times the mean over all directions
    counts half when the learner of `distill` adapts, stronger ones less; null lets all count alike. It needs 100
    recovered pictures; of a learner that is continued only those of its new teachers count. The head `maml` and the
    defect `transductive_batchnorm` do without."""
    shared_classes: bool = True
    """Whether the learner of `distill` scores a class that several teachers know once for all of them. Which classes
    are the same is read off the teachers' answers, not off their names. It needs 100 pictures, and is left out above
    4,096 answers."""
    answers: bool = True
    """Whether the finished learner of `distill` still predicts its teachers' answers. With `false` it keeps only its
    features, which say less about which pictures a teacher was trained on (docs/security.md) and tell new classes
    apart less well. `gating` and `shared_classes` need the answers, and a run that continues such a learner does not
    get them back."""

    def of_network(self) -> dict[str, object]:
        """The settings that a saved network is rebuilt from: all but those of what a run fits at its end."""
        kept = {key: value for key, value in asdict(self).items() if key not in FITTED}
        if not self.calibration_steps:
            del kept["calibration_steps"]  # older readers know no such key
        return kept


FITTED = ("gating", "whitening", "shared_classes", "answers")
"""Settings of `learner` that a run reads when it ends; of a saved learner its weights say what was fitted."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainerConfig(_Section):
    """The loop: how long, on what, what is kept."""

    steps: int | None = Field(default=None, ge=1)
    """Outer steps; null leaves the end to max_minutes, or to the recipe's own number."""
    max_minutes: float | None = Field(default=None, gt=0)
    """Wall-clock minutes at most; schedules stretch to whichever of steps and minutes ends first."""
    pool_first: bool | None = None
    """Whether the teachers are pooled, and one network learns what the pooled learner says, in place of recovered
    tasks (docs/guides/pooled.md). With null that is done where a teacher tells 10 classes or more apart and all can be
    asked in a part of the minutes, of which there are 10 or more, and nothing is set of the method, the learner's
    network or how it learns."""
    warmup_steps: int = Field(default=20, ge=0)
    """Outer steps of generator-only meta-training before the first task is kept (FREE: 20); a fifth of max_minutes at
    most."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."""
    mixed_precision: Annotated[Literal["auto", "no", "bf16", "fp16"], BeforeValidator(_no)] = "auto"
    """Autocast type; `auto` takes bf16 where the device computes it natively. fp16 is for GPUs without bf16: `distill`
    scales its loss, inversion stays in fp32, and the other objectives, whose inner steps do not scale, refuse it."""
    channels_last: bool = True
    """Memory format of convolutional networks."""
    compile: bool = False
    """Whether torch.compile compiles generator and learner; needs a C++ compiler on a CPU, and does not pay there."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two lines of the log; the first ten have a line each."""
    log_with: Annotated[list[Tracker], BeforeValidator(as_list)] = field(default_factory=list)
    """Trackers that are sent what goes into log.jsonl, each in the background: `tensorboard` writes to `trackers/` in
    the run's folder (`pip install 'hf-free[tensorboard]'`), the others as their own settings say."""
    deterministic: bool = False
    """Whether torch takes algorithms that give the same numbers each time, on a GPU too."""
    checkpoint_every: int = Field(default=100, ge=1)
    """Steps between two checkpoints that may be chosen as the best."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Minutes between two checkpoints to resume from, a quarter of max_minutes at most; the first comes after the
    first minute that recovered something."""
    keep_checkpoints: int = Field(default=2, ge=1, le=1000)
    """Number of newest checkpoints that are kept; a second one is there in case the newest is damaged."""
    picture_every: int = Field(default=50, ge=1)
    """Steps between two grids of recovered images."""
    validation_episodes: int = Field(default=200, ge=1)
    """Episodes that choose the best checkpoint, of a validation set or (`align`) of held-out recovered pictures."""
    validation_dataset: str | None = None
    """Pictures of other classes that choose the best checkpoint: a `datasets` id, Parquet or a folder; null reads no
    real picture and takes held-out recovered ones."""
    validation_split: str | None = None
    """Split of the validation data set, never one named test; null takes validation, else train."""
    memory: str | None = None
    """Memory that a run may take, such as 6GiB (the GPU's, where it runs on one): what does not fit at once is done in
    pieces. With null it takes half of what is free, within the limits of control groups."""
    min_steps: int = Field(default=3, ge=0)
    """Fewest steps that a run's minutes must be enough for, as measured before it begins; with fewer it is refused. 0
    accepts any number. Below 50 it says what to make smaller."""
    threads: int | None = Field(default=None, ge=1, le=1024)
    """CPU threads of each process; null leaves them to torch (`OMP_NUM_THREADS`, else one per core), and shares the
    cores out where a run has several processes. Fewer are faster where other programs share the cores."""
    chains: int | None = Field(default=None, ge=1, le=1024)
    """Parts that a step's work is cut into, each with its own teachers and its part of every batch: a multiple of the
    number of processes, which share them out. With null there is one per process. One process with two chains
    ends with the same weights as two processes with one each."""

    @field_validator("memory")
    @classmethod
    def _check_memory(cls, value: str | None) -> str | None:
        """Refused while the configuration is read, rather than when memory is planned."""
        if value is not None:
            parse_bytes(value, flag="--memory")
        return value


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QueriesConfig(_Section):
    """Questions to black boxes: teachers behind an address, which answer and give nothing else."""

    budget: int | None = Field(default=None, ge=0)
    """Most pictures that all black boxes of a run together may be asked about; failed tries that may have been
    answered count too; null for any number. Beyond that nothing is asked, and the run goes on with the answers that
    are there."""
    concurrent: int = Field(default=4, ge=1, le=256)
    """Most requests to one black box at the same time."""
    per_second: float | None = Field(default=None, gt=0)
    """Most requests to one black box that begin within a second; null for any number."""
    pictures_per_request: int = Field(default=1, ge=1, le=256)
    """Pictures of one request; the Hub's protocol takes one, `hf-free serve` lists of up to 256."""
    directions: int = Field(default=100, ge=1, le=100_000)
    """Directions that a gradient is estimated from by zero-order inversion (BiDf-MKD: 100)."""
    smoothing: float = Field(default=0.005, gt=0, lt=10)
    """Length of its steps in pixels of [0, 1] (BiDf-MKD: 0.005); a black box gets whole gray levels, one at least."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HubConfig(_Section):
    """What is pulled from and pushed to the Hub. Tokens are never part of a configuration."""

    push_to_hub: str | None = None
    """Repository `org/name` that `hf-free train` and `hf-free pool` publish the learner to; in Python, call
    `hf_free.push` when it is made."""
    push_checkpoints: str | None = None
    """Private repository `org/name` that each checkpoint is pushed to as it is made; --resume goes on from there where
    the run's folder is gone."""
    private: bool = False
    """Whether the repository of the learner is created private."""
    license: str | None = None
    """License of the learner, chosen by the user; never invented."""
    card_images: bool | None = None
    """Whether the card shows recovered images; null: only if every teacher is public and ungated."""
    name_private_teachers: bool = False
    """Whether private and gated teachers are named in the card."""
    push_generator: bool = False
    """Whether the trained meta-generator is pushed too."""
    base_model_relation: Literal["adapter", "merge", "quantized", "finetune"] = "finetune"
    """Relation to the teachers in the card; the Hub would infer `merge`, which a distilled network is not."""
    commit_message: str = "Upload meta-learner with hf-free"
    """Message of the commit."""
    create_pr: bool = False
    """Whether to open a pull request instead of committing."""
    mark_predecessor: bool = False
    """Whether the card of the learner on the Hub that `learner.init_from` continues gets `new_version`, when the new
    one is published."""
    cache_dir: str | None = None
    """Folder of the download cache."""
    teacher_memory: str = "4GiB"
    """Budget for teachers' weights in memory, as 500MB or 4GiB."""

    @field_validator("teacher_memory")
    @classmethod
    def _check_teacher_memory(cls, value: str) -> str:
        parse_bytes(value)
        return value


def as_wanted(values: Mapping[str, object], section: type) -> dict[str, object]:
    """Values as read from YAML, as the fields of a section want them: the text that was written, or its value."""
    wanted = get_type_hints(section, include_extras=True)
    return {str(key): _value_for(wanted.get(str(key)), value) for key, value in values.items()}


def _value_for(hint: object, value: object) -> object:
    if is_dataclass(hint) and isinstance(value, Mapping):
        return as_wanted(value, hint)  # type: ignore[arg-type]
    if not _takes_text(hint) or (is_null(value) and _takes_nothing(hint)):
        return meant(value)
    return as_texts(value)


def _takes_text(hint: object) -> bool:
    """Whether a type is a text, a choice of texts, or a list or union with one."""
    return hint is str or isinstance(hint, str) or any(map(_takes_text, get_args(hint)))


def _takes_nothing(hint: object) -> bool:
    """Whether None is a value of a type, or it is a list, for which no text can stand."""
    parts = get_args(hint)
    optional = type(None) in parts or any(type(None) in get_args(part) for part in parts)  # within Annotated, too
    return optional or list in (get_origin(hint), *map(get_origin, parts))
