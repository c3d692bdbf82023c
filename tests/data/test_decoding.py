"""The one door from pictures to tensors: orientation, transparency, bit depth, mode, size, and what is refused."""

from __future__ import annotations

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from odd_pictures import ORIENTATION, color, exif, gray
from PIL import Image

from hf_free.data.decoding import PictureError, decode, is_picture_file, open_upright, parse_color, reduce
from hf_free.errors import DatasetError, LearnerError
from hf_free.runtime.memory_budget import peak_memory


def encoded(picture, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(picture, **options):
    return decode(picture, **options).pixels


def of(array) -> torch.Tensor:
    """An array (H, W, 3) as `decode` gives it."""
    return torch.from_numpy(np.array(array)).permute(2, 0, 1)


UPRIGHT = {  # EXIF 2.3: where row 0 and column 0 of the stored picture are, told by numpy
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_is_the_same_for_files_bytes_and_pil_pictures(tmp_path, orientation):
    content = encoded(Image.fromarray(color(0)), exif=exif(orientation))
    (tmp_path / "a.png").write_bytes(content)
    expected = of(UPRIGHT[orientation](color(0)))
    loaded = Image.open(io.BytesIO(content))
    loaded.load()
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), content, Image.open(tmp_path / "a.png"), loaded):
        assert torch.equal(pixels(given), expected)
    assert loaded.size == (30, 40), "the caller's picture stays as it is"
    assert loaded.getexif()[ORIENTATION] == orientation
    assert np.array_equal(np.asarray(open_upright(content)), expected.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_every_format_is_turned_once_and_a_broken_exif_block_says_nothing(kind):
    picture = Image.fromarray(color(0))
    try:
        turned = encoded(picture, kind, exif=exif(6), quality=95)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow does not write {kind}")
    assert pixels(turned).shape == (3, 30, 40)
    if kind in ("TIFF", "AVIF"):  # Pillow writes no broken block there
        return
    start = b"Exif\0\0" if kind == "JPEG" else b""
    for broken in (b"MM\0*\0\0\0\x08\xff\xff", b"nonsense", b"II*\0\xff\xff\xff\xff"):
        content = encoded(picture, kind, exif=start + broken, quality=95)
        assert torch.equal(pixels(content), pixels(encoded(picture, kind, quality=95)))


def on_ground(rgba, ground):
    """Slow plain composition, in floats."""
    alpha = rgba[..., 3:] / 255
    return rgba[..., :3] * alpha + np.array(ground) * (1 - alpha)


@pytest.mark.parametrize("ground", ["white", "#102030"])
def test_transparency_of_every_kind_lies_on_the_ground(ground):
    values = np.dstack([color(0), (255 * gray(9)).astype(np.uint8)])
    picture = Image.fromarray(values)
    expected = on_ground(values, parse_color(ground))
    options = {"background": parse_color(ground)}
    exact = pixels(picture, **options)
    assert np.abs(exact.permute(1, 2, 0).numpy() - expected).max() <= 0.51
    for given in (
        encoded(picture),
        encoded(picture, "WEBP", lossless=True, exact=True),
        values,
        values.transpose(2, 0, 1),
    ):
        assert torch.equal(pixels(given, **options), exact)
    assert torch.equal(pixels(torch.from_numpy(values).permute(2, 0, 1), **options), exact)
    floats = pixels(values / 255, **options)
    assert (255 * floats - exact).abs().max() <= 0.51
    gray_alpha = picture.convert("LA")
    assert torch.equal(pixels(np.asarray(gray_alpha), **options), pixels(encoded(gray_alpha), **options))


def test_color_keys_of_palettes_gray_rgb_and_sixteen_bits_are_transparency_too():
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    content = encoded(palette, transparency=0)
    assert pixels(content)[:, 0, :2].T.tolist() == [[255, 255, 255], [10, 20, 30]]
    in_memory = Image.open(io.BytesIO(content)).convert("PA")
    assert pixels(in_memory)[:, 0, :2].T.tolist() == [[255, 255, 255], [10, 20, 30]]
    for mode, value, key in (("L", 7, 7), ("RGB", (1, 2, 3), (1, 2, 3))):
        assert pixels(encoded(Image.new(mode, (3, 3), value), transparency=key)).unique().tolist() == [255]
    deep = Image.fromarray(np.array([[0, 500], [500, 30000]], dtype=np.uint16))
    read = pixels(encoded(deep, transparency=500))
    assert read.shape == (3, 2, 2)
    assert (65535 * read[0]).round().tolist() == [[0, 65535], [65535, 30000]]


def test_sixteen_bits_and_floats_keep_their_values(tmp_path):
    deep = (300 + 39700 * gray(1)).astype(np.uint16)
    picture = Image.fromarray(deep)
    for suffix in ("png", "tif", "pgm"):  # Pillow opens the last as mode I
        picture.save(tmp_path / f"a.{suffix}")
        read = pixels(tmp_path / f"a.{suffix}")
        assert (read.shape, read.dtype) == ((1, 40, 30), torch.float32)
        assert np.array_equal((65535 * read[0]).round().numpy(), deep)
    big_endian = Image.frombytes("I;16B", picture.size, deep.astype(">u2").tobytes())
    for given in (picture, deep, big_endian, deep.astype(">u2"), torch.from_numpy(deep), deep[..., None]):
        assert torch.equal(pixels(given), read)
    Image.fromarray(gray(1).astype(np.float32)).save(tmp_path / "f.tif")
    assert np.array_equal(pixels(tmp_path / "f.tif")[0].numpy(), gray(1).astype(np.float32))
    turned = pixels(encoded(picture, exif=exif(6)))
    assert np.array_equal((65535 * turned[0]).round().numpy(), np.rot90(deep, -1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_other_modes_are_what_pillow_makes_of_them(mode):
    picture = Image.fromarray(color(0)).convert("RGB").convert(mode)
    expected = of(np.asarray(picture.convert("RGB")))
    assert torch.equal(pixels(picture).expand(3, -1, -1), expected)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames_is_read_and_the_others_are_told(kind):
    frames = [Image.fromarray(color(seed)) for seed in (20, 50)]
    first = encoded(frames[0], kind, **({"lossless": True} if kind == "WEBP" else {}))
    options = {"save_all": True, "append_images": frames[1:], **({"lossless": True} if kind == "WEBP" else {})}
    several = decode(encoded(frames[0], kind, **options))
    assert several.more_frames
    assert not decode(first).more_frames
    assert (several.pixels.float() - pixels(first).float()).abs().mean() < 3  # a GIF's palette may be another


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64, np.uint16, bool]
)
def test_arrays_of_every_type_and_layout_are_the_same_picture(dtype):
    values = color(3) if dtype is not bool else color(3) > 127
    scale = 1 / 255 if np.issubdtype(dtype, np.floating) else 257 if dtype is np.uint16 else 1
    array = values if dtype is bool else (values * np.float64(scale)).astype(dtype)
    expected = of(values).float() / (1 if dtype is bool else 255)
    layouts = [array, array.transpose(2, 0, 1), array.tolist(), torch.from_numpy(array).permute(2, 0, 1)]
    for given in layouts[: 2 if dtype is np.uint16 else 4]:  # a list has lost its type
        read = pixels(given)
        read = read if read.is_floating_point() else read.float() / 255
        torch.testing.assert_close(read, expected, atol=1e-3 if dtype is np.float16 else 1e-6, rtol=0)
    assert pixels(array[..., 0]).shape == pixels(array[..., :1]).shape == (1, 40, 30)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_tensors_of_other_floats_are_read_in_single_precision(dtype):
    values = torch.rand(3, 9, 7).to(dtype)
    assert torch.equal(pixels(values), values.float())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (list(range(1024)), r"shape \(1024,\)[\s\S]*a flat list of numbers is not a picture"),
        ([[1, 2], [3]], "lists of unequal lengths"),
        (color(0)[:0], "without numbers"),
        (torch.rand(3, 0, 4), "without pixels"),
        (color(0).astype(float), r"values from 2 to 2\d\d[\s\S]*divide by 255"),
        (color(0) / 127.5 - 1, r"values from -0.984 to [\s\S]*\(x \+ 1\) / 2"),
        (color(0).astype(np.int64) * 257, r"type torch.int64[\s\S]*make them uint16"),
        (np.full((4, 5), np.nan), r"values that are no finite numbers[\s\S]*leave these pictures out"),
        (np.full((4, 5), np.inf), "values that are no finite numbers"),
        (np.zeros((28, 28, 28)), r"no channels at either end"),
        (np.zeros((3, 28, 3)), r"channels at both ends"),
        (np.zeros((5, 4), dtype=complex), "complex"),
        (torch.rand(7, 9, 9), "7 channels"),
        (torch.rand(3, 4, 4, device="meta"), "device meta"),
        (torch.rand(3, 4, 4).to_sparse(), "layout torch.sparse_coo"),
        (np.array(["a", "b"]), "not a picture"),
        (17, "type int"),
        ({"label": 3}, "keys label"),
        ({"bytes": None, "path": None}, "missing"),
        (Image.fromarray(color(0)[..., 0].astype(np.float32)), "values from 2 to 2"),
        ("https://example.org/a.png", "address"),
        ("nowhere.png", "nowhere.png cannot be decoded: there is no such file"),
        (b"", "0 bytes"),
        (b"not a picture", "not a picture"),
    ],
)
def test_what_can_be_read_in_two_ways_or_in_none_is_refused(given, message):
    for kind in (LearnerError, DatasetError):
        with pytest.raises(kind, match=message):
            decode(given)


def test_damaged_files_are_called_by_their_names(tmp_path, monkeypatch):
    whole = encoded(Image.fromarray(color(0, 200, 200)))
    contents = {
        "truncated.png": whole[: len(whole) // 2],
        "header.png": whole[:20],
        "flipped.png": whole[:60] + bytes(255 - value for value in whole[60:80]) + whole[80:],
        "empty.jpg": b"",
        "text.jpg": b"hello",
        "huge.pgm": b"P5 999999999 999999999 255\n",
        "overflow.bmp": b"BM" + bytes(12) + b"\x28\0\0\0" + b"\xff\xff\xff\x7f" * 2 + b"\x01\0\x18\0" + bytes(24),
        "wrong.tif": b"II*\0\x08\0\0\0\xff\xff" + bytes(range(200)),
        "photo.heic": b"\0\0\0\x18ftypheic" + bytes(60),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(PictureError) as caught:
            decode(tmp_path / name)
        assert str(tmp_path / name) in caught.value.given
        assert caught.value.action
    with pytest.raises(PictureError, match=r"truncated.png cannot be decoded: it ends before its last pixel"):
        decode(Image.open(tmp_path / "truncated.png"))
    if "pillow_heif" not in sys.modules:
        with pytest.raises(PictureError, match="pip install pillow-heif"):
            decode(contents["photo.heic"])
    (tmp_path / "many.png").write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PictureError, match=r"many.png[\s\S]*MAX_IMAGE_PIXELS"):
        decode(tmp_path / "many.png")


def test_formats_that_start_programs_are_not_read():
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(PictureError, match="of a format that is not read here"):
        decode(script)


def test_names_of_picture_files():
    assert all(map(is_picture_file, ["a.JPG", "b.jfif", "c.avif", "d.HEIC", "e.tif", "f.tiff", "g.jp2", "h.webp"]))
    assert not any(map(is_picture_file, ["a.txt", "b.json", "png", ".png/x", "c.parquet", "d.eps"]))


def test_colors():
    assert parse_color("white") == parse_color("#ffffff") == parse_color([255, 255, 255]) == (255, 255, 255)
    assert parse_color("#102030") == (16, 32, 48)
    for wrong in ("whitish", [1, 2], [0, 0, 256]):
        with pytest.raises(PictureError, match="background"):
            parse_color(wrong)


def smooth(height, width):
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / period + columns / 47) for period in (31, 53, 91)]
    return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def test_large_pictures_are_reduced_to_twice_the_size_wanted_and_small_ones_are_not():
    large = Image.fromarray(smooth(1200, 1600))
    content = encoded(large, "JPEG", quality=95)
    assert pixels(content).shape == (3, 1200, 1600)
    for size, shape in ((32, (150, 200)), (84, (300, 400)), (300, (600, 800)), (301, (1200, 1600))):
        assert pixels(content, size=size).shape == (3, *shape)
        assert pixels(encoded(large), size=size).shape == (3, *shape)
    assert pixels(encoded(Image.fromarray(smooth(800, 1000)), "JPEG"), size=16).shape == (3, 800, 1000)
    lazy = Image.open(io.BytesIO(content))
    assert torch.equal(pixels(lazy, size=32), pixels(content, size=32))
    assert lazy.size == (1600, 1200)
    assert torch.equal(of(np.asarray(lazy)), pixels(content)), "the caller's picture is still whole"
    plain = smooth(1200, 1600).reshape(150, 8, 200, 8, 3).mean((1, 3))
    assert np.abs(reduce(of(smooth(1200, 1600)), 32).permute(1, 2, 0).numpy() - plain).max() <= 0.51


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "I;16", "F", "CMYK", "1"])
def test_a_large_picture_is_reduced_in_strips_as_it_would_be_whole(mode):
    """Also where neither side is a multiple of what it is reduced by, and where a color stands for no color."""
    color, picture = Image.fromarray(smooth(1203, 1605)), None
    if mode == "I;16":
        picture = Image.fromarray(smooth(1203, 1605)[..., 0].astype(np.uint16) * 257)
        picture.info["transparency"] = 127 * 257
    elif mode == "F":
        picture = Image.fromarray(smooth(1203, 1605)[..., 0].astype(np.float32) / 255)
    else:
        picture = color.convert(mode)
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(smooth(1203, 1605)[..., 1]))
    if mode == "P":
        picture.info["transparency"] = 3
    assert torch.equal(pixels(picture, size=40), reduce(pixels(picture), 40))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel keeps the peak of memory on Linux only")
@pytest.mark.parametrize(
    ("kind", "most"), [("JPEG", 3), ("PNG", 12), pytest.param("TIFF", 12, marks=pytest.mark.long)]
)
def test_a_large_picture_takes_little_memory(kind, most):
    """Bytes per pixel at the peak: about 1, 8 and 8; 17 of a PNG that is not reduced in strips.

    Memory that the process has freed before and not handed back may count as well.
    """
    fast = {"compress_level": 1} if kind == "PNG" else {}
    content = encoded(Image.fromarray(smooth(2400, 3200)), kind, **fast)
    decode(encoded(Image.fromarray(smooth(1200, 1600)), kind), size=32)  # what is made once
    taken = peak_memory(lambda: decode(content, size=32), torch.device("cpu"))
    assert taken < most * 2400 * 3200


def test_a_reduced_photo_is_within_two_gray_levels_of_the_whole_one():
    content = encoded(Image.fromarray(smooth(1200, 1600)), "JPEG", quality=90)
    for size in (32, 84, 224):
        whole, reduced = (
            torch.nn.functional.interpolate(
                part[None].float(), size=(size, size), mode="bilinear", antialias=True, align_corners=False
            )
            for part in (pixels(content), pixels(content, size=size))
        )
        assert (whole - reduced).abs().max() < 2


def _png(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds next to nothing."""
    whole = encoded(Image.new("RGB", (8, 8)))
    head = b"IHDR" + struct.pack(">II", width, height) + whole[24:29]
    return whole[:8] + whole[8:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


def _floats(value: float) -> bytes:
    return encoded(Image.fromarray(np.full((8, 8), value, np.float32)), "TIFF")


BAD_FILES = {
    **{"empty.png": b"", "text.jpg": b"hello", "page.jpg": b"<html>", "zip.png": b"PK\3\4", "svg.png": b"<svg/>"},
    **{"pdf.png": b"%PDF-1.4", "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n", "gz.png": b"\x1f\x8b\x08\0"},
    **{"pointer.png": b"version https://git-lfs.github.com/spec/v1\n", "gif.png": b"GIF89a" + bytes(10)},
    **{"bmp.png": b"BM" + bytes(30), "webp.png": b"RIFF\x10\0\0\0WEBPVP8 ", "ico.png": b"\0\0\1\0\1\0"},
    **{"jp2.png": b"\0\0\0\x0cjP  \r\n\x87\n", "avif.png": b"\0\0\0\x1cftypavif" + bytes(40), "qoi.png": b"qoif"},
    **{"zero.png": _png(0, 0), "bomb.png": _png(60_000, 60_000), "ppm.png": b"P6 99999999 99999999 255\n"},
    **{"float.tif": _floats(7.5), "nan.tif": _floats(float("nan")), "minus.tif": _floats(-3.0)},
    "int.tif": encoded(Image.fromarray(np.full((8, 8), 70_000, np.int32)), "TIFF"),
}
"""Name -> content of files that are no picture, a damaged one, or one whose range is not clear."""

BAD_PLACES = {
    "folder.png": lambda path: path.mkdir(),
    "pipe.png": os.mkfifo,
    "circle.png": lambda path: path.symlink_to(path),
    "nowhere.png": lambda path: path.symlink_to("none"),
    "endless.png": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("name", [*BAD_FILES, *BAD_PLACES, "missing.png"])
@pytest.mark.parametrize("kind", ["path", "text", "row"])
def test_every_refusal_names_the_file(name, kind, tmp_path):
    path = tmp_path / name
    if name in BAD_FILES:
        path.write_bytes(BAD_FILES[name])
    elif name in BAD_PLACES:
        BAD_PLACES[name](path)
    content = BAD_FILES.get(name) if kind == "row" else None
    with pytest.raises(PictureError) as caught:
        decode({"path": path, "text": str(path), "row": {"bytes": content, "path": str(path)}}[kind])
    assert str(path) in caught.value.given


def test_a_git_lfs_pointer_in_the_place_of_a_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    with pytest.raises(PictureError, match="it is a git-lfs pointer") as caught:
        decode(tmp_path / "a.png")
    assert "git lfs pull" in caught.value.action
