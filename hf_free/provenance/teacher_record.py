"""What a teacher is: where it comes from, what it can do, who may see it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields

from hf_free.provenance.reading import Json, JsonView, check_types

FILES = ("config.json", "model.safetensors")
"""Files of a teacher's repository or folder in timm's layout."""

PIXEL_FILES = ("processor_config.json", "preprocessor_config.json")
"""Files that say how photos are shown to a classifier of transformers; the first one wins, as in the library."""


@dataclass(frozen=True)
class TeacherRecord:
    """Where a teacher comes from and what it is, as it goes into the run's record and the card."""

    reference: str
    """The text that named the teacher."""
    repo_id: str | None
    """Hub repository, None for a local folder."""
    commit: str | None
    """Commit the files were read at, None for a local folder."""
    architecture: str
    """timm's name of the network, or transformers' class."""
    parameters: int
    """Number of parameters."""
    input_size: tuple[int, int, int]
    """(channels, height, width) the teacher is shown."""
    fixed_input_size: bool
    """Whether the network takes no other height and width."""
    mean: tuple[float, ...]
    """Mean subtracted from each channel of images in [0, 1]."""
    std: tuple[float, ...]
    """Deviation each channel is divided by."""
    interpolation: str
    """Filter the teacher's pictures were resized with."""
    num_classes: int
    """Classes the teacher answers with (after `classes`)."""
    label_names: tuple[str, ...] | None
    """Name of each class, where the repository gives them."""
    num_features: int
    """Width of the classifier's input, measured; not always timm's `num_features`."""
    normalization: dict[str, int] = field(default_factory=dict)
    """Number of normalization layers by type."""
    license: str | None = None
    """License in the repository's metadata."""
    private: bool = False
    """Whether the repository is private."""
    gated: bool = False
    """Whether the repository is gated."""
    sha256: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file read."""
    timm_version: str = ""
    """timm that built the network; empty for one of transformers'."""
    classes: tuple[int, ...] | None = None
    """Outputs of the head chosen by the reference; None: all."""
    label_descriptions: tuple[str, ...] | None = None
    """Description of each class, where the repository gives them (ImageNet's names are numbers)."""
    weight_bytes: int = 0
    """Memory of parameters and buffers in bytes."""
    weight_dtype: str = "float32"
    """Type of the weights in the file and in memory."""
    fp32_only: bool = False
    """Whether it is computed in fp32 in a run in bf16, because its answers were others in bf16 when it was loaded."""
    crop: float | None = None
    """Share of a photo's shorter side that the teacher was measured on, timm's `crop_pct`; None: all of both sides."""
    resize: tuple[int, ...] | None = None
    """Shorter side, or height and width, that a photo is resized to before the center is cut out; wins over `crop`."""
    transformers_version: str = ""
    """transformers that built the network; empty for a network of timm's."""
    answers_only: bool = False
    """Whether it is a black box, which answers and gives neither weights nor gradients."""
    notes: tuple[str, ...] = ()
    """What was ignored or is worth knowing, a sentence each."""

    @property
    def has_batchnorm(self) -> bool:
        """Whether there are BatchNorm statistics to match."""
        return any("BatchNorm" in name for name in self.normalization)

    @property
    def is_hidden(self) -> bool:
        """Whether the repository is private or gated, so that what is published does not name it."""
        return self.private or self.gated

    @property
    def is_in_memory(self) -> bool:
        """Whether it was given as a network: no file of it is known, and no black box either."""
        return self.repo_id is None and not (self.sha256 or self.is_hidden or self.answers_only)

    def to_dict(self) -> Json:
        """The record as plain JSON types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: JsonView) -> TeacherRecord:
        """Read `to_dict`'s form back; keys of later versions are left out.

        Raises:
            TypeError: a key is missing, or a value is not of the type that its field has.
        """
        known = {entry.name for entry in fields(cls)}
        read: Json = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items() if key in known}
        check_types(cls, read)
        return cls(**read)
