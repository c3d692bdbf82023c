"""Anything that is a picture -> a tensor (C, H, W): the one door, for every verb and for Python alike.

Files, encoded bytes, PIL pictures, arrays and tensors pass the same five steps in the same order: orientation (EXIF),
transparency (laid on a background), bit depth (8 bits stay bytes, more become floats), mode (gray or RGB), size (large
pictures are reduced by a power of two). `hf_free.data.images` makes batches of what comes out.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NamedTuple, Union

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageColor, UnidentifiedImageError
from torch import Tensor

from hf_free.errors import DatasetError, LearnerError
from hf_free.runtime.git_lfs import POINTER_START, WAY_OUT
from hf_free.runtime.given import from_home, short_form

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PictureLike = Union["Picture", Tensor, NDArray[np.generic], str, Path, bytes, Mapping[str, object]]
"""A PIL picture, a path, a file's bytes, a row `{"bytes": ..., "path": ...}` of `datasets`, an array (H, W),
(H, W, C) or (C, H, W), or a tensor (H, W) or (C, H, W)."""

Color = tuple[int, int, int]

WHITE: Color = (255, 255, 255)
"""What transparent pictures are laid on, unless something else is asked for."""

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
"""Files that Pillow reads with the plug-in pillow-heif only."""

PICTURE_SUFFIXES = HEIF_SUFFIXES | {
    *(".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe"),
    *(".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga"),
    *(".tif", ".tiff", ".webp"),
}
"""Suffixes of pictures, in small letters. What is in such a file decides how it is read, not its suffix."""

LARGE = 2**20
"""Pictures of more pixels than this are reduced before they are resized; smaller ones are taken as they are."""

MARGIN = 2
"""A reduced picture has at least this many times the height and width wanted, so that the antialiased resize that
follows still decides what is seen (Pillow's `reducing_gap` of 2)."""

STRIP = 256
"""Rows of a large picture that are reduced at once; a multiple of every factor that it is reduced by."""

CHANNELS = (1, 2, 3, 4)
"""Gray, gray with alpha, RGB, RGB with alpha."""

_TOLERANCE = 1e-3
"""How far floats may leave [0, 1]: a resize overshoots a little."""

_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF 2.3, tag Orientation: what turns the stored picture upright."""

_STACKED_FORMATS = frozenset({"GIF", "PNG", "WEBP", "TIFF", "AVIF"})
"""Formats whose further frames are pictures of their own. Phones put previews behind the photo of an MPO file."""

_SIXTEEN_BIT_FORMATS = frozenset({"PNG", "PPM"})
"""Formats whose pictures of mode I have 16 bits: they cannot have more."""


class PictureError(LearnerError, DatasetError):
    """Something that is no picture, or one that cannot be read; whether it was shown to a learner or lies in a data
    set.
    """

    places: tuple[int, ...] = ()
    """Where in their list the pictures stand that cannot be read; nothing where it is not about a list."""


class Decoded(NamedTuple):
    """A picture as it leaves the door."""

    pixels: Tensor
    """(C, H, W), C 1 or 3: uint8, or float32 in [0, 1] where the picture has more than 8 bits."""
    more_frames: bool = False
    """Whether the file holds further frames, which are passed over."""


def is_picture_file(path: str | PurePath) -> bool:
    """Whether a file's name ends as pictures' names do."""
    return PurePath(path).suffix.lower() in PICTURE_SUFFIXES


def parse_color(color: str | Sequence[int]) -> Color:
    """Read a color: a name or `#rrggbb`, as Pillow and CSS write them, or three numbers from 0 to 255.

    Raises:
        PictureError: no such color.
    """
    try:
        values = tuple(ImageColor.getrgb(color)[:3] if isinstance(color, str) else (int(part) for part in color))
        if len(values) == 3 and all(0 <= value <= 255 for value in values):
            return values[0], values[1], values[2]
    except (ValueError, TypeError):
        pass
    raise PictureError(
        f"background {short_form(color)}",
        allowed="a color's name, #rrggbb, or three numbers from 0 to 255",
        action="white",
    )


def decode(
    picture: PictureLike, *, name: str = "the picture", size: int | None = None, background: Color = WHITE
) -> Decoded:
    """Read one picture of any kind.

    Args:
        picture: See `PictureLike`. Nested lists of numbers are read as arrays. PIL pictures stay as they are.
        name: What errors call it, unless it is a file, which is called by its path.
        size: Height and width that it will be resized to; lets large pictures be reduced (JPEG files while they are
            decoded) to no less than `MARGIN` times that. None keeps all pixels.
        background: What transparent pictures are laid on.

    Raises:
        PictureError: no picture, one that is damaged or too large, or numbers whose range is not clear.
    """
    if picture is None:  # a cell of a table that is empty
        raise PictureError(f"{name} is missing", allowed="a picture", action="leave it out")
    if isinstance(picture, Tensor):
        check_plain(picture, name)
        return Decoded(reduce(_one_of(picture, name, background), size))
    if isinstance(picture, Image.Image):
        name = str(getattr(picture, "filename", "") or name)
        encoded = _still_encoded(picture)
        if encoded is None:
            given = picture
            return Decoded(_read(lambda: reduce(_from_pil(given, background, name, size), size), name))
        picture = encoded
    if isinstance(picture, Mapping):
        picture, name = _of_row(picture, name)
    if isinstance(picture, (str, Path, bytes, bytearray)):
        return _from_file(picture, name, size, background)
    return Decoded(reduce(_from_array(picture, name, background), size))


def open_upright(picture: PictureLike, *, name: str = "the picture") -> Picture:
    """A picture of any kind as a PIL picture of its own mode, all of its pixels loaded, turned as EXIF says.

    Raises:
        PictureError: as `decode`.
    """
    if isinstance(picture, Mapping):
        picture, name = _of_row(picture, name)
    if isinstance(picture, (str, Path, bytes, bytearray)):
        source, name = _source(picture, name)
        return _read(lambda: _upright(_loaded(source, None)), name, source)
    if isinstance(picture, Image.Image):
        opened = picture
        return _read(lambda: _upright(opened), name)
    pixels = decode(picture, name=name).pixels
    if pixels.dtype != torch.uint8:
        pixels = (255 * pixels).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())


def check_plain(pixels: Tensor, name: str = "pictures") -> None:
    """Refuse tensors that have no shape, or whose numbers mean others.

    Raises:
        PictureError: with what makes a plain one of it.
    """
    if pixels.is_nested or pixels.is_quantized:
        kind = "nested" if pixels.is_nested else "quantized"
        action = "give its parts as a list: x.unbind()" if pixels.is_nested else "x.dequantize()"
        raise PictureError(f"{name}: a {kind} tensor", allowed="dense tensors", action=action)


def to_unit(pixels: Tensor, name: str = "pictures") -> Tensor:
    """Bring pictures of any shape to uint8 or to float32 in [0, 1], by their type and never by guessing at a scale.

    uint8 stays; uint16 is divided by 65,535; booleans are black and white; other integers have to be 0 to 255 and
    are taken for bytes; floats of any width have to be in [0, 1].

    Raises:
        PictureError: values outside these ranges, which can be read in more than one way.
    """
    check_plain(pixels, name)
    if pixels.layout != torch.strided or pixels.is_meta:
        what = "without numbers (device meta)" if pixels.is_meta else f"of layout {pixels.layout}"
        raise PictureError(f"{name}: a tensor {what}", allowed="dense tensors", action="x.to_dense()")
    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype == torch.bool:
        return pixels.to(torch.uint8) * 255
    if pixels.dtype == torch.uint16:
        return pixels.float() / 65535
    if pixels.is_complex():
        raise PictureError(f"{name} of type {pixels.dtype}", allowed="uint8, uint16, or float in [0, 1]")
    if pixels.is_floating_point() and pixels.dtype.itemsize == 1:
        pixels = pixels.float()  # float8 has no minimum
    low, high = (pixels.min().item(), pixels.max().item()) if pixels.numel() else (0, 0)
    if not pixels.is_floating_point():
        if 0 <= low <= high <= 255:
            return pixels.to(torch.uint8)
        raise PictureError(
            f"{name} of type {pixels.dtype} with values from {low} to {high}",
            allowed="uint8, uint16, other integers from 0 to 255, or float in [0, 1]",
            action="make them uint16 if 65,535 is white; else divide by the value of white",
        )
    if low >= -_TOLERANCE and high <= 1 + _TOLERANCE:  # NaN fails too
        return pixels.float()
    if not math.isfinite(low) or not math.isfinite(high):  # a minimum is NaN where one number is
        raise PictureError(
            f"{name} with values that are no finite numbers",
            allowed="finite floats in [0, 1], uint8, or uint16",
            action="find what made them, such as a division by 0, or leave these pictures out",
        )
    normalized = low < -_TOLERANCE
    raise PictureError(
        f"{name} of floats with values from {low:.3g} to {high:.3g}",
        allowed="float in [0, 1], uint8, or uint16; the learner normalizes by itself",
        action="undo the normalization: (x + 1) / 2 if it was to [-1, 1]"
        if normalized
        else "divide by 255 if 255 is white",
    )


def reduce(pixels: Tensor, size: int | None) -> Tensor:
    """Average a large picture (..., H, W) over squares of 2, 4 or 8 pixels, to at least `MARGIN` times `size`.

    An antialiased resize from there to `size` differs by a gray level or two from one of the whole picture
    (docs/experiments), at a fraction of its time and memory. Bytes stay bytes.
    """
    factor = _factor(pixels.shape[-2:], size)
    if factor == 1:
        return pixels
    return reduce(_averaged(pixels, factor), size)  # once more where 8 was not enough


def _averaged(pixels: Tensor, factor: int) -> Tensor:
    """Means of squares of `factor` pixels of a picture (..., H, W); bytes stay bytes."""
    planes = pixels.reshape(-1, 1, *pixels.shape[-2:])
    means = [F.avg_pool2d(plane.float(), factor, ceil_mode=True, count_include_pad=False) for plane in planes]
    reduced = torch.stack(means).reshape(*pixels.shape[:-2], *means[0].shape[-2:])
    return reduced.round_().to(torch.uint8) if pixels.dtype == torch.uint8 else reduced


def lay_on_ground(pixels: Tensor, background: Color = WHITE) -> Tensor:
    """Take the alpha channel out of pictures: (B, 2 or 4, H, W) -> (B, 3, H, W); others are returned as they are.

    Bytes are composed by Pillow, so that an array gives the very values of the picture it was made from.
    """
    if pixels.shape[1] not in (2, 4):
        return pixels
    if pixels.dtype == torch.uint8:
        arrays = [one.permute(1, 2, 0).cpu().contiguous().numpy() for one in pixels]
        composed = [_composed(Image.fromarray(array), background) for array in arrays]
        return torch.stack([_bytes_of(one) for one in composed]).to(pixels.device)
    ground = pixels.new_tensor(background).view(1, 3, 1, 1) / 255
    color, alpha = pixels[:, :-1], pixels[:, -1:]
    return color * alpha + ground * (1 - alpha)


# ---- files and encoded pictures


def _from_file(picture: str | Path | bytes | bytearray, name: str, size: int | None, background: Color) -> Decoded:
    source, name = _source(picture, name)

    def read() -> Decoded:
        with _loaded(source, size) as opened:
            pixels = reduce(_from_pil(opened, background, name, size), size)
            return Decoded(pixels, _has_more_frames(opened))

    return _read(read, name, source)


def _source(picture: str | Path | bytes | bytearray, name: str) -> tuple[str | io.BytesIO, str]:
    """What Pillow can open, and its name: a file's own path, if it is one.

    Raises:
        PictureError: no such file, or nothing in it.
    """
    if isinstance(picture, (bytes, bytearray)):
        if not picture:
            raise _unreadable(name, "it is empty (0 bytes)")
        return io.BytesIO(picture), name
    path = os.path.expanduser(os.fspath(picture))
    if "://" in path:
        raise _unreadable(path, "it is an address, not a file", "download it first")
    if not os.path.isfile(path):
        raise _unreadable(path, "it is a folder" if os.path.isdir(path) else "there is no such file", "check the path")
    if not os.path.getsize(path):
        raise _unreadable(path, "it is empty (0 bytes)")
    return path, path


def _loaded(source: str | io.BytesIO, size: int | None) -> Picture:
    """A picture's first frame, decoded; a large JPEG at an eighth, a quarter or half of its size, as `size` allows."""
    start = _start_of(source)
    if _looks_like_heif(start) and _heif_plugin():
        _formats.cache_clear()
    picture = Image.open(source, formats=_usual_format(start) or _formats())
    if size is not None and _factor((picture.height, picture.width), size) > 1:
        picture.draft(None, (MARGIN * size, MARGIN * size))  # only JPEG can; nothing happens to others
    picture.load()
    return picture


def _factor(shape: Sequence[int], size: int | None) -> int:
    """By how much a large picture's sides are divided: 1, 2, 4 or 8, as JPEG decoders can."""
    if size is None or shape[0] * shape[1] <= LARGE:
        return 1
    return next((factor for factor in (8, 4, 2) if min(shape) // factor >= MARGIN * size), 1)


def _still_encoded(picture: Picture) -> bytes | None:
    """The file of a JPEG that was opened and not decoded yet, so that it is decoded as the file itself would be.

    Only large ones: `draft` on the picture itself would change it under its owner's hands.
    """
    if picture.format not in ("JPEG", "MPO") or picture.width * picture.height <= LARGE:
        return None
    file = getattr(picture, "fp", None)
    if file is None or not getattr(picture, "tile", None):
        return None
    try:
        place = file.tell()
        file.seek(0)
        content = file.read()
        file.seek(place)
    except (OSError, ValueError):
        return None
    return content


@cache
def _formats() -> tuple[str, ...]:
    """The formats that pictures come in, of those that this Pillow reads. Others, such as EPS, start programs."""
    Image.init()
    wanted = {Image.registered_extensions().get(suffix) for suffix in PICTURE_SUFFIXES}
    return tuple(name for name in Image.ID if name in wanted)


def _usual_format(start: bytes) -> tuple[str, ...]:
    """The format of a file that begins as one of the most usual do; none for others, or if this Pillow lacks it.

    No other format begins so, and to import the readers of all others takes a quarter of a second.
    """
    for beginning, brand, name, reader in _USUAL:
        if start.startswith(beginning) and (not brand or start[8:12] == brand):
            with suppress(ImportError):
                import_module(f"PIL.{reader}")
            return (name,) if name in Image.OPEN else ()
    return ()


_USUAL = (
    (b"\x89PNG\r\n\x1a\n", b"", "PNG", "PngImagePlugin"),
    (b"\xff\xd8\xff", b"", "JPEG", "JpegImagePlugin"),
    (b"RIFF", b"WEBP", "WEBP", "WebPImagePlugin"),
)
"""How files begin, what their bytes 8 to 11 are, the format, and Pillow's module that reads it."""


def _start_of(source: str | io.BytesIO, count: int = 12) -> bytes:
    """The first bytes."""
    if isinstance(source, str):
        with open(source, "rb") as file:
            return file.read(count)
    return source.getbuffer()[:count].tobytes()


def _looks_like_heif(start: bytes) -> bool:
    """Whether a file begins with one of HEIF's brands (ISO/IEC 23008-12)."""
    return start[4:8] == b"ftyp" and start[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


@cache
def _heif_plugin() -> bool:
    """Register Pillow's plug-in for HEIF when the first such file comes; whether it is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def check_within(picture: object, folders: Sequence[Path], name: str) -> None:
    """Refuse a row or a text that names a file elsewhere on this computer than in the data set's folders.

    Args:
        picture: What `decode` reads.
        folders: Where files may lie, however they are linked.
        name: What the error calls it.

    Raises:
        PictureError: with the file.
    """
    if isinstance(picture, Mapping):
        picture = picture.get("path") if picture.get("bytes") is None else None
    if not isinstance(picture, str | os.PathLike) or "://" in str(picture):
        return  # an address is refused by itself
    try:
        path = from_home(os.fsdecode(picture)).resolve()
        is_within = any(path.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, RuntimeError, ValueError):  # links in a circle, a home that nobody has, a zero character
        is_within = False
    if not is_within:
        raise PictureError(
            f"{name} names the file {os.fsdecode(picture)[:200]!r}, which lies outside of the data set",
            allowed="pictures as bytes, or files in the data set's own folder",
            action="move the files into its folder, or write their bytes into the rows",
        )


def _of_row(row: Mapping[str, object], name: str) -> tuple[Any, str]:
    """The bytes of a row of `datasets`, or its path where it has no bytes, and its name."""
    if "bytes" not in row and "path" not in row:
        raise _no_picture(f"{name} with the keys {', '.join(map(str, row)) or '(none)'}")
    content, path = row.get("bytes"), row.get("path")
    if content is None and path is None:
        raise _unreadable(name, "it is missing (neither bytes nor a path)")
    return (path if content is None else content), (f"{name} ({path})" if path else name)


def _read(read: Callable[[], object], name: str, source: str | io.BytesIO | None = None) -> Any:
    """Call Pillow; damaged files make it raise nearly anything.

    Raises:
        PictureError: whatever went wrong, with the picture's name.
    """
    try:
        return read()
    except PictureError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        hint = "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS in Python"
        size = re.search(r"\((\d+) pixels\)", str(error))
        many = f"it has {int(size[1]):,} pixels, more" if size else "it has more pixels"
        raise _unreadable(name, f"{many} than is safe to read", hint) from None
    except UnidentifiedImageError:
        suffix = Path(name.removesuffix(")")).suffix.lower()
        is_heif = suffix in HEIF_SUFFIXES or (source is not None and _looks_like_heif(_start_of(source)))
        if is_heif and not _heif_plugin():
            hint = "pip install pillow-heif, which teaches Pillow to read HEIC"
            raise _unreadable(name, "Pillow reads HEIC with a plug-in only", hint) from None
        if suffix in PICTURE_SUFFIXES and suffix not in Image.registered_extensions():
            hint = "install a Pillow that can, or save it as PNG"
            raise _unreadable(name, f"this Pillow cannot read {suffix}", hint) from None
        if source is not None and _start_of(source, len(POINTER_START)) == POINTER_START:
            raise _unreadable(name, "it is a git-lfs pointer, not the picture itself", WAY_OUT) from None
        raise _unreadable(name, "not a picture, or of a format that is not read here") from None
    except PermissionError:
        raise _unreadable(name, "this user may not read it", "its owner lets others read it: chmod a+r") from None
    except MemoryError:
        raise _unreadable(name, "there is not enough memory for it", "make it smaller") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not Pillow's
            hint = "see whether it can be copied, or leave it out"
            raise _unreadable(name, (error.strerror or "it cannot be read").lower(), hint) from None
        known = next((reason for part, reason in _DAMAGED.items() if part in str(error)), "")
        raise _unreadable(name, known or f"{type(error).__name__}: {_first_line(error)}") from None


_DAMAGED = {
    "image file is truncated": "it ends before its last pixel",
    "Truncated File Read": "it ends before its last pixel",
    "broken data stream": "its data are damaged",
    "broken PNG file": "its data are damaged",
    "bad checksum": "its data are damaged",
    "Decompressed data too large": "the texts beside its pixels are too large",
}
"""What Pillow says of a damaged file, by a part of its words, in ours."""


def _unreadable(name: str, reason: str, action: str = "correct or remove that picture") -> PictureError:
    return PictureError(f"{name} cannot be decoded: {reason}", action=action)


def _no_picture(given: str) -> PictureError:
    return PictureError(
        given,
        allowed="paths, PIL pictures, a file's bytes, arrays (H, W), (H, W, C) or (C, H, W), tensors (C, H, W); "
        "one or a list, or one batch (B, C, H, W)",
        action="a flat list of numbers is not a picture: give it its height and width",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


# ---- PIL pictures


def _from_pil(picture: Picture, background: Color, name: str, size: int | None) -> Tensor:
    """A loaded PIL picture as (C, H, W): upright, without transparency, uint8 or float32, gray or RGB.

    A large one is reduced for `size` strip by strip, so that beside it no second one of its size is held.
    """
    picture = _upright(picture)
    factor = _factor((picture.height, picture.width), size)
    if factor == 1:
        return _pixels_of(picture, background, name)
    strips = []
    for top in range(0, picture.height, STRIP):
        strip = picture.crop((0, top, picture.width, min(top + STRIP, picture.height)))
        strip.format = picture.format
        strips.append(_averaged(_pixels_of(strip, background, name), factor))
    return torch.cat(strips, dim=1)


def _pixels_of(picture: Picture, background: Color, name: str) -> Tensor:
    """An upright PIL picture as (C, H, W), all of its pixels."""
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        return _from_deep(picture, background, name)
    if picture.mode in ("RGBa", "La"):
        picture = picture.convert({"RGBa": "RGBA", "La": "LA"}[picture.mode])
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = _composed(picture, background)
    elif picture.mode in ("1", "L"):
        picture = picture.convert("L")
    else:
        picture = picture.convert("RGB")
    return _bytes_of(picture)


def _upright(picture: Picture) -> Picture:
    """Turn a picture as its EXIF block says; a block that cannot be read says nothing."""
    picture.load()  # TIFF turns itself now, and says so by dropping the tag
    if not (picture.width and picture.height):  # which Pillow makes, and no file holds
        size = f"{picture.width}x{picture.height}"
        raise PictureError(f"a PIL picture of {size} without pixels", allowed="at least 1x1")
    try:
        orientation = picture.getexif().get(_ORIENTATION)
    except Exception:  # whatever a broken block makes of the reader
        return picture
    how = _TRANSPOSE.get(orientation) if isinstance(orientation, int) else None
    if how is None:
        return picture
    turned = picture.transpose(how)
    turned.info.update({key: value for key, value in picture.info.items() if key == "transparency"})
    return turned


def _composed(picture: Picture, background: Color) -> Picture:
    """A picture with transparency of any kind, laid on a background: mode RGB."""
    ground = Image.new("RGBA", picture.size, (*background, 255))
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")


def _bytes_of(picture: Picture) -> Tensor:
    """A picture of mode L or RGB as uint8 (1 or 3, H, W)."""
    values = torch.from_numpy(np.array(picture, dtype=np.uint8))
    return values[None] if values.ndim == 2 else values.permute(2, 0, 1).contiguous()


def _from_deep(picture: Picture, background: Color, name: str) -> Tensor:
    """A gray picture of more than 8 bits (modes I;16, I, F), (C, H, W)."""
    values = np.asarray(picture)
    is_sixteen_bit = picture.mode != "F" and (picture.mode != "I" or picture.format in _SIXTEEN_BIT_FORMATS)
    if is_sixteen_bit:
        values = values.astype(np.uint16)
    elif picture.mode == "F":
        values = values.astype(np.float32)
    pixels = to_unit(torch.from_numpy(np.array(values)), name)[None]
    clear = picture.info.get("transparency")
    if isinstance(clear, int) and is_sixteen_bit:
        alpha = torch.from_numpy(values != clear).float()[None]
        return lay_on_ground(torch.cat([pixels.expand(1, -1, -1), alpha])[None], background)[0]
    return pixels


def _has_more_frames(picture: Picture) -> bool:
    """Whether a file holds further pictures; asked last, since asking moves through the file."""
    if picture.format not in _STACKED_FORMATS:
        return False
    try:
        return bool(getattr(picture, "is_animated", False))
    except Exception:  # the first frame is whole: what follows is passed over anyway
        return True


# ---- arrays and tensors


def _one_of(picture: Tensor, name: str, background: Color) -> Tensor:
    """A tensor (H, W) or (C, H, W) as (1 or 3, H, W), uint8 or float32 in [0, 1]."""
    if picture.ndim not in (2, 3):
        raise _no_picture(f"{name}: a tensor of shape {tuple(picture.shape)}")
    return prepare(picture[None, None] if picture.ndim == 2 else picture[None], name, background)[0]


def prepare(pictures: Tensor, name: str = "pictures", background: Color = WHITE) -> Tensor:
    """A batch (B, 1 to 4, H, W) of any type as (B, 1 or 3, H, W), uint8 or float32 in [0, 1].

    Raises:
        PictureError: other channels, empty pictures, or numbers whose scale is not clear.
    """
    if pictures.shape[1] not in CHANNELS:
        raise PictureError(
            f"{name} with {pictures.shape[1]} channels, shape {tuple(pictures.shape)}",
            allowed="1 (gray), 2 (with alpha), 3 (RGB) or 4 (with alpha) channels; tensors have them first",
            action="permute height x width x channels tensors to channels x height x width",
        )
    if not (pictures.shape[2] and pictures.shape[3]):
        raise PictureError(f"{name} of shape {tuple(pictures.shape)} without pixels", allowed="at least 1x1")
    return lay_on_ground(to_unit(pictures, name), background)


def _from_array(picture: object, name: str, background: Color) -> Tensor:
    """An array, or nested lists of numbers, as (1 or 3, H, W), uint8 or float32 in [0, 1].

    Raises:
        PictureError: what is no array of two or three dimensions, or one whose channels cannot be told.
    """
    return prepare(channels_first(to_array(picture, name), name)[None], name, background)[0]


def to_array(picture: object, name: str) -> Tensor:
    """An array or nested lists of numbers as a tensor of the same shape.

    Raises:
        PictureError: something that is no array of numbers.
    """
    if not isinstance(picture, (list, tuple, np.ndarray)) and not hasattr(picture, "__array__"):
        raise _no_picture(f"{name} is of type {type(picture).__name__}")
    if np.ma.is_masked(picture):
        raise PictureError(
            f"{name}: an array of which parts are masked", allowed="whole pictures", action="x.filled(0)"
        )
    try:
        values = np.asarray(picture)
    except (ValueError, TypeError) as error:
        raise _no_picture(f"{name}: lists of unequal lengths ({_first_line(error)})") from None
    kind = values.dtype.kind
    if kind not in "buif" or not values.size:
        what = "without numbers" if kind in "buif" else f"of type {values.dtype}"
        raise _no_picture(f"{name}: an array {what}, shape {values.shape}")
    if kind != "u" or values.dtype.itemsize > 2:
        values = values.astype({"b": np.bool_, "f": np.float64}.get(kind, np.int64))
    return torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("=")))


def channels_first(values: Tensor, name: str) -> Tensor:
    """An array (H, W), (H, W, C) or (C, H, W) as (C, H, W), told by which end is 1 to 4 long.

    Raises:
        PictureError: none is, both are, or another number of dimensions.
    """
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3:
        raise _no_picture(f"{name}: an array of shape {tuple(values.shape)}")
    first, last = values.shape[0] in CHANNELS, values.shape[-1] in CHANNELS
    if first == last:
        problem = "channels at both ends" if first else "no channels at either end"
        raise PictureError(
            f"{name}: an array of shape {tuple(values.shape)} with {problem}",
            allowed="(H, W), (H, W, C) or (C, H, W), 1 to 4 channels",
            action="give a torch tensor, which has its channels first; several gray pictures as (B, 1, H, W)",
        )
    return values if first else values.permute(2, 0, 1)
