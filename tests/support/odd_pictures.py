"""Pictures as people have them: one folder of every mode, depth, orientation and format that Pillow writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, features

ORIENTATION = 0x0112


def gray(seed: int, height: int = 40, width: int = 30) -> np.ndarray:
    """A smooth pattern (H, W) in [0, 1] with noise; no orientation of it looks like another."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).random((height, width))
    return (0.3 * rows / height + 0.5 * (columns / width) ** 2 + 0.2 * noise).clip(0, 1)


def color(seed: int, height: int = 40, width: int = 30) -> np.ndarray:
    """Three such patterns as bytes (H, W, 3)."""
    planes = [gray(seed + plane, height, width) for plane in range(3)]
    return (255 * np.stack(planes, -1)).round().astype(np.uint8)


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block.tobytes()


def is_readable(path):
    """Whether Pillow itself can read a file."""
    try:
        with Image.open(path) as picture:
            picture.load()
    except OSError:
        return False
    return True


def write_all(folder: Path) -> list[Path]:
    """Write the pictures; their paths, sorted."""
    folder.mkdir(parents=True, exist_ok=True)
    rgb = Image.fromarray(color(0))
    half = Image.fromarray((255 * gray(9)).astype(np.uint8))
    for orientation in range(1, 9):
        rgb.save(folder / f"exif{orientation}.jpg", exif=exif(orientation), quality=95)
    for suffix in ("png", "webp", "tif"):
        rgb.save(folder / f"exif6.{suffix}", exif=exif(6))
        rgb.save(folder / f"plain.{suffix}")
    rgb.save(folder / "broken_exif.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    rgb.save(folder / "broken_exif.png", exif=b"MM\0*\0\0\0\x08\xff\xff")
    rgb.save(folder / "broken_exif.webp", exif=b"MM\0*\0\0\0\x08\xff\xff")
    for suffix in ("bmp", "gif", "ppm", "jfif", "tiff", "tga", "jpeg", "jpe"):
        rgb.save(folder / f"plain.{suffix}")
    for mode in ("1", "L", "P"):
        rgb.convert(mode).save(folder / f"mode_{mode}.png")
    rgb.convert("CMYK").save(folder / "mode_CMYK.tif")
    rgb.convert("YCbCr").save(folder / "mode_YCbCr.tif")
    if not is_readable(folder / "mode_YCbCr.tif"):  # Pillow 12 and older cannot read what they write
        (folder / "mode_YCbCr.tif").unlink()
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    rgb.convert("L").save(folder / "gray.jpg")
    for mode in ("RGBA", "LA"):
        transparent = rgb.convert(mode)
        transparent.putalpha(half)
        transparent.save(folder / f"mode_{mode}.png")
    rgba = rgb.convert("RGBA")
    rgba.putalpha(half)
    rgba.save(folder / "alpha.webp", lossless=True)
    palette = rgb.quantize(16)
    palette.save(folder / "palette_clear.png", transparency=3)
    palette.save(folder / "palette_clear.gif", transparency=3)
    palette.save(folder / "palette_alpha.png", transparency=bytes(range(0, 256, 16)))
    rgb.convert("L").save(folder / "gray_clear.png", transparency=rgb.convert("L").getpixel((4, 4)))
    deep = (65535 * gray(5)).astype(np.uint16)
    for suffix in ("png", "tif", "pgm"):
        Image.fromarray(deep).save(folder / f"deep.{suffix}")
    Image.fromarray(gray(6).astype(np.float32)).save(folder / "float.tif")
    frames = [Image.fromarray(color(seed)) for seed in (20, 30)]
    for suffix in ("gif", "tif", "png", "webp"):
        frames[0].save(folder / f"frames.{suffix}", save_all=True, append_images=frames[1:])
    Image.fromarray(color(40, 1100, 1300)).save(folder / "large.jpg", exif=exif(8))
    Image.fromarray(color(41, 1100, 1300)).save(folder / "large.png", compress_level=1)
    if features.check("avif"):
        rgb.save(folder / "plain.avif")
    if features.check("jpg_2000"):
        rgb.save(folder / "plain.jp2")
    return sorted(folder.iterdir())
