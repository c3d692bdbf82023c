"""Pictures of any kind -> one batch of a network's size and channels, and the test-time views of it.

How one picture is read is in `hf_free.data.decoding`; here they are brought to one size and put together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hf_free.data import resizing
from hf_free.data.decoding import (
    CHANNELS,
    WHITE,
    Color,
    Decoded,
    PictureError,
    PictureLike,
    channels_first,
    check_plain,
    check_within,
    decode,
    open_upright,
    parse_color,
    prepare,
    reduce,
    to_array,
    to_unit,
)

if TYPE_CHECKING:
    from PIL.Image import Image

Images = PictureLike | Sequence[PictureLike]
"""One picture, a list of pictures, or a batch: a tensor (B, C, H, W), or an array (B, H, W, C) or (B, C, H, W).

Tensors and arrays are uint8, uint16 or floats in [0, 1]; see `hf_free.data.decoding.to_unit`."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many of it are done, and how many there are."""

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601, as Pillow's mode L)."""


MOVED = 0.1
"""Part of a picture's sides by which the views at its corners are moved: 3 of 32 pixels; 2 and 4 are nearly as good
(docs/experiments/embedding-and-head.md)."""


def _moved(images: Tensor, down: int, right: int) -> Tensor:
    """Pictures (B, C, H, W) moved by `MOVED` of their sides, down and right (1) or up and left (-1); edges repeat."""
    for axis, way in ((-2, down), (-1, right)):
        side = images.shape[axis]
        step = max(1, round(MOVED * side))
        edge = images.narrow(axis, 0 if way > 0 else side - 1, 1)
        edges, kept = [edge] * step, images.narrow(axis, 0 if way > 0 else step, side - step)
        images = torch.cat([*edges, kept] if way > 0 else [kept, *edges], axis)
    return images


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda images: images,
    "flip": lambda images: images.flip(-1),
    "up_left": lambda images: _moved(images, -1, -1),
    "up_right": lambda images: _moved(images, -1, 1),
    "down_left": lambda images: _moved(images, 1, -1),
    "down_right": lambda images: _moved(images, 1, 1),
}
"""Test-time views by name; each maps (B, C, H, W) to the same shape."""

WRITING_VIEWS = "learner.views=[identity,up_left,up_right,down_left,down_right]"
"""The setting for writing: mirrored, a letter is another one, or none; moved, it stays what it is. Two to four points
for digits and letters; signs and photographs lose by it (docs/experiments/embedding-and-head.md)."""

_AT_ONCE = 256
"""Pictures that the threads are given at a time; an interruption waits for no more than these."""
_NAMED = 5
"""Unreadable pictures that an error names; it counts the others."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def match_channels(images: Tensor, channels: int) -> Tensor:
    """Turn gray pictures into color ones or the reverse: (B, 1 or 3, H, W) -> (B, channels, H, W).

    Raises:
        PictureError: pictures with neither one nor three channels.
    """
    given = images.shape[1]
    if given == channels:
        return images
    if given == 1:
        return images.expand(-1, channels, -1, -1)
    if given == 3 and channels == 1:
        weights = images.new_tensor(LUMA).view(1, 3, 1, 1)
        return (images * weights).sum(1, keepdim=True)
    raise PictureError(
        f"pictures with {given} channels, shape {tuple(images.shape)}",
        allowed=f"1 or 3 channels (channels first) for a learner that sees {channels}",
        action="permute height x width x channels tensors to channels x height x width",
    )


def resize(images: Tensor, size: int) -> Tensor:
    """Resize (B, C, H, W) to (B, C, size, size), bilinear with antialiasing, differentiable; the shape is not kept."""
    return resizing.resize(images, (size, size))


def to_float(images: Tensor) -> Tensor:
    """Bytes or floats of any width as float32 in [0, 1], see `hf_free.data.decoding.to_unit`.

    Raises:
        PictureError: floats outside [0, 1], or integers whose scale is not clear.
    """
    images = to_unit(images)
    return images.float() / 255 if images.dtype == torch.uint8 else images


MOST_ASPECT = 16
"""Largest ratio of a picture's sides when its center is cut out; a longer picture loses its ends before it is
resized."""


@dataclass(frozen=True)
class Preprocessing:
    """How pictures are brought to a network's size.

    Attributes:
        size: Height and width.
        channels: 1 or 3.
        interpolation: A filter's name, see `hf_free.data.resizing.FILTERS`.
        crop: None: the whole picture, its shape not kept; else timm's `crop_pct`: the shorter side becomes
            size / crop, the shape is kept, and the center is cut out (`timm.data.transforms_imagenet_eval`).
        resize: None, or what wins over `crop`: the shorter side, or height and width, to which a picture is resized
            before the center is cut out as transformers' processors cut it: where it cannot be the very center, half
            a pixel to the top left, while timm rounds.
    """

    size: int
    channels: int = 3
    interpolation: str = "bilinear"
    crop: float | None = None
    resize: tuple[int, ...] | None = None

    @property
    def shorter_side(self) -> int:
        """What the shorter side is resized to, or more."""
        if self.resize is not None:
            return max(self.resize)
        return self.size if self.crop is None else int(self.size / self.crop)


def fit(pictures: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Bring pictures to one size and one number of channels; bytes are rounded to bytes again, floats stay floats.

    Args:
        pictures: (B, 1 or 3, H, W), uint8 or float32 in [0, 1]. Pictures of the size wanted are not resized, unless
            `resize` says so.
        preprocessing: What is wanted.

    Returns:
        (B, channels, size, size) of the same type.
    """
    size, channels, exact = preprocessing.size, preprocessing.channels, preprocessing.resize
    if pictures.shape[1:] == (channels, size, size) and exact in (None, (size, size)):
        return pictures
    if _is_cropped(preprocessing, *pictures.shape[-2:]):
        pictures = _without_far_ends(pictures)
    shape = _shape_to_crop(preprocessing, *pictures.shape[-2:])
    is_bytes = pictures.dtype == torch.uint8
    values = pictures.float()
    if values.shape[1] > channels:
        values = match_channels(values, channels)
    values = resizing.resize(values, shape, preprocessing.interpolation, limit=255.0 if is_bytes else 1.0)
    top, left = ((side - size) // 2 if exact else round((side - size) / 2) for side in shape)
    values = values[..., top : top + size, left : left + size]
    values = match_channels(values, channels)
    return values.round().clamp_(0, 255).to(torch.uint8) if is_bytes else values


def _is_cropped(preprocessing: Preprocessing, height: int, width: int) -> bool:
    """Whether the shape of pictures is kept, so that their ends are cut off."""
    if preprocessing.resize is not None:
        return len(preprocessing.resize) == 1
    return preprocessing.crop is not None and (height, width) != (preprocessing.size, preprocessing.size)


def _shape_to_crop(preprocessing: Preprocessing, height: int, width: int) -> tuple[int, int]:
    """What pictures of a height and width are resized to before their center is cut out."""
    if _is_cropped(preprocessing, height, width):
        side, shorter = preprocessing.shorter_side, min(height, width)
        return side * height // shorter, side * width // shorter
    high, wide = preprocessing.resize or (preprocessing.size, preprocessing.size)
    return high, wide


def _without_far_ends(pictures: Tensor) -> Tensor:
    """The middle of pictures that are far longer than wide: of a crop nothing else is kept, and a line of one pixel
    by 60,000 would be enlarged to gigabytes before it is cut."""
    shape = pictures.shape[-2:]
    longest = MOST_ASPECT * min(shape)
    for axis, length in zip((-2, -1), shape, strict=True):
        if length > longest:
            pictures = pictures.narrow(axis, (length - longest) // 2, longest)
    return pictures


class LazyPictures(Sequence["Image"]):
    """Pictures that are decoded when asked for, so that a data set is held in its encoded form.

    Args:
        encoded: What `decode` reads: paths, bytes, rows of `datasets`, arrays.
        names: What errors call each of them.
        number_type: Type of the numbers of pictures given as nested lists, which have lost it (`uint16`); None: what
            the lists hold.
        within: Folders in which files that are named have to lie; None allows all.
    """

    def __init__(
        self,
        encoded: Sequence[object],
        names: Sequence[str],
        number_type: str | None = None,
        within: Sequence[Path] | None = None,
    ) -> None:
        self._encoded, self._names, self._number_type, self._within = encoded, names, number_type, within

    def __len__(self) -> int:
        return len(self._encoded)

    def __getitem__(self, index: Any) -> Any:
        """One as an upright PIL picture; a slice of them as pictures that are decoded when asked for."""
        if isinstance(index, slice):
            return self.chosen(range(*index.indices(len(self))))
        return open_upright(self.encoded(index), name=self.name(index))

    def chosen(self, places: Iterable[int]) -> LazyPictures:
        """Some of them."""
        places = list(places)
        chosen = [self._encoded[i] for i in places], [self._names[i] for i in places]
        return LazyPictures(*chosen, self._number_type, self._within)

    def encoded(self, index: int) -> Any:
        """A picture as it is held.

        Raises:
            PictureError: the path of a file that lies elsewhere.
        """
        value = self._encoded[index]
        if self._within is not None:
            check_within(value, self._within, self.name(index))
        if self._number_type is not None and isinstance(value, (list, tuple)):
            try:
                return np.asarray(value, dtype=self._number_type)
            except (ValueError, TypeError):
                return value  # unequal lengths or a missing number: whoever decodes it says so
        return value

    def name(self, index: int) -> str:
        """What errors call a picture."""
        return self._names[index]


@dataclass
class PictureBatch:
    """Pictures at one size, and what could not be read of those asked for.

    Attributes:
        images: (N, C, S, S); uint8, or float32 in [0, 1] if any picture has more than 8 bits.
        places: (N,) which of the pictures asked for they are.
        errors: Why each of the others could not be read, by its place.
        more_frames: How many files hold further frames, of which only the first is taken.
    """

    images: Tensor
    places: Tensor
    errors: dict[int, PictureError] = field(default_factory=dict)
    more_frames: int = 0


def read_batch(
    pictures: Sequence[object],
    preprocessing: Preprocessing,
    *,
    background: Color = WHITE,
    progress: Progress | None = None,
    keep_going: bool = False,
) -> PictureBatch:
    """Read pictures of any kind and bring them to one size; files in as many threads as PyTorch computes with.

    Args:
        pictures: What `decode` reads, `LazyPictures` among them.
        preprocessing: The size they are brought to, and how.
        background: What transparent pictures are laid on.
        progress: Called while they are read.
        keep_going: Whether to go on without the pictures that cannot be read.

    Raises:
        PictureError: pictures that cannot be read: all are named and counted. With `keep_going` never.
    """

    def read(item: tuple[Any, str]) -> Decoded | PictureError:
        if isinstance(item[0], PictureError):
            return item[0]
        try:
            one = decode(item[0], name=item[1], size=preprocessing.shorter_side, background=background)
            return one._replace(pixels=fit(one.pixels[None], preprocessing))
        except PictureError as error:
            return error

    done: list[Tensor] = []
    places: list[int] = []
    nothing = torch.empty(0, preprocessing.channels, preprocessing.size, preprocessing.size, dtype=torch.uint8)
    batch = PictureBatch(nothing, torch.empty(0, dtype=torch.long))
    for place, one in enumerate(_in_threads(read, _items(pictures), _workers(pictures))):
        if isinstance(one, PictureError):
            batch.errors[place] = one
        else:
            done.append(one.pixels)
            places.append(place)
            batch.more_frames += one.more_frames
        if progress is not None and ((place + 1) % 32 == 0 or place + 1 == len(pictures)):
            progress("pictures read", place + 1, len(pictures))
    if batch.errors and not keep_going:
        error = joint_error(list(batch.errors.values()), len(pictures))
        error.places = tuple(batch.errors)
        raise error
    if done:
        if any(part.dtype != torch.uint8 for part in done):
            done = [to_float(part) for part in done]
        batch.images, batch.places = torch.cat(done), torch.tensor(places)
    return batch


def joint_error(errors: Sequence[PictureError], count: int) -> PictureError:
    """One error that counts pictures which cannot be read, of `count`, and names the first of them."""
    if len(errors) == 1:
        return errors[0]
    named = "".join(f"\n  - {error.given}" for error in errors[:_NAMED])
    more = f"\n  - and {len(errors) - _NAMED} more" if len(errors) > _NAMED else ""
    actions = list(dict.fromkeys(error.action for error in errors if error.action))
    return PictureError(
        f"{len(errors)} of {count} pictures cannot be read:{named}{more}",
        allowed=errors[0].allowed,
        action="; ".join(actions[:3]),
    )


def as_batch(images: Images, preprocessing: Preprocessing, *, background: Color | str = WHITE) -> Tensor:
    """Turn pictures of any kind into one batch.

    Args:
        images: One picture, a list of pictures of any kinds and sizes, or one batch; see `Images`. Of a file with
            several frames the first is taken.
        preprocessing: Size and channels of the batch, and how pictures are brought there.
        background: What transparent pictures are laid on: a name, `#rrggbb` or three numbers.

    Returns:
        Float tensor (B, channels, size, size) in [0, 1].

    Raises:
        LearnerError: no picture, something that is none (`PictureError`), or one that cannot be read.
    """
    ground = parse_color(background)
    given = _batch_or_list(images)
    if not len(given):
        raise PictureError("no pictures", allowed="at least one picture")
    if isinstance(given, Tensor):
        return to_float(fit(reduce(prepare(given, background=ground), preprocessing.shorter_side), preprocessing))
    return to_float(read_batch(given, preprocessing, background=ground).images)


def _batch_or_list(images: object) -> Any:
    """A batch as a tensor (B, C, H, W), or a sequence of pictures; one picture is a sequence of one."""
    if isinstance(images, Tensor):
        check_plain(images)
        return images if images.ndim == 4 else [images]
    if isinstance(images, np.ndarray):
        if images.ndim == 4 and len(images):
            return _array_batch(images)
        return images if images.ndim in (1, 4) else [images]  # (1,): an array of pictures or paths, or of nothing
    if isinstance(images, (str, Path, bytes, bytearray, Mapping)) or hasattr(images, "convert"):
        return [images]
    if isinstance(images, (list, tuple)) and _is_one_array(images):
        return [images]
    if isinstance(images, Sequence) or (hasattr(images, "__getitem__") and hasattr(images, "__len__")):
        return images
    return list(images) if isinstance(images, Iterable) else [images]


def _is_one_array(images: Sequence[object]) -> bool:
    """Whether lists of numbers (H, W, C) are one picture: as a list of H gray ones each would be C pixels wide."""
    row = images[0] if images else None
    pixel = row[0] if isinstance(row, (list, tuple)) and row else None
    return isinstance(pixel, (list, tuple)) and len(pixel) in CHANNELS and isinstance(pixel[0], (int, float))


def _array_batch(images: np.ndarray) -> Tensor:
    """An array (B, H, W, C) or (B, C, H, W) as a tensor (B, C, H, W)."""
    values = to_array(images, "pictures")
    is_first = torch.equal(channels_first(values[0], "pictures"), values[0])
    return values if is_first else values.permute(0, 3, 1, 2)


def _items(pictures: Sequence[object]) -> Iterator[tuple[object, str]]:
    """Each picture as it is held, and its name."""
    for place in range(len(pictures)):
        if isinstance(pictures, LazyPictures):
            try:
                yield pictures.encoded(place), pictures.name(place)
            except PictureError as error:  # one that may not be read, as one that cannot be
                yield error, pictures.name(place)
        else:
            yield pictures[place], "the picture" if len(pictures) == 1 else f"picture {place}"


def _workers(pictures: Sequence[object]) -> int:
    """How many threads may read them. Pillow's pictures are loaded by one: a list may hold the same one twice."""
    is_files = isinstance(pictures, LazyPictures) or (
        isinstance(pictures, (list, tuple)) and not any(hasattr(picture, "convert") for picture in pictures)
    )
    return min(torch.get_num_threads(), len(pictures)) if is_files else 1


def _in_threads(read: Callable[[Item], Result], items: Iterator[Item], workers: int) -> Iterator[Result]:
    """What `read` gives for each item, in order; items are fetched by the caller's thread."""
    if workers < 2:
        yield from map(read, items)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="hf-free-read") as executor:
        while part := list(islice(items, _AT_ONCE)):
            yield from executor.map(read, part)
