"""What a teacher's answers lose or gain by how its pictures are resized, against timm's own evaluation transform.

    python examples/zoo/real_teachers.py --checkpoints CHECKPOINTS --output zoo/real
    python examples/benchmark resizing --teacher zoo/real/imagenet1k-tf-efficientnet-lite0 --data DATA/flowers

Each way is a row: the difference of its logits from those with timm's transform in units of their deviation, and the
few-shot accuracy of the features it gives. The figures of docs/experiments are of this script.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hf_free.data.episodes import sample_episodes
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.learner.scoring import mean_and_interval, score_episodes
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.teacher import Teacher

CHUNK = 32
"""Pictures a pass."""


def main() -> None:
    """Print a table a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a teacher")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data sets")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--images", type=int, default=400, help="pictures of a data set at most")
    parser.add_argument("--episodes", type=int, default=600)
    options = parser.parse_args()
    teacher = load_teacher(TeacherReference.parse(str(options.teacher)))
    for folder in options.data:
        data = load_labeled_images(folder, split=options.split)
        classes = max(5, len(data.class_names) * options.images // len(data))
        places = (data.labels < classes).nonzero().flatten().tolist()
        pictures = [data.images[place].convert("RGB") for place in places]
        print(f"\n{folder.name}, {len(places)} pictures of {pictures[0].size[0]}x{pictures[0].size[1]}")
        compare(teacher, pictures, data.labels[places], options.episodes)


def compare(teacher: Teacher, pictures: Sequence[Image.Image], labels: Tensor, episodes: int) -> None:
    """Print a row a way of resizing."""
    fewest = int(labels.bincount().min())
    drawn = [
        sample_episodes(
            labels, n_way=5, k_shot=shot, n_query=min(15, fewest - shot), episodes=episodes,
            generator=torch.Generator().manual_seed(0),
        )
        for shot in (1, 5)
    ]  # fmt: skip
    print("| way | difference of logits | same first class | 1-shot | 5-shot |\n|---|---|---|---|---|")
    reference: Tensor | None = None
    for name, way in ways(teacher).items():
        features, logits = ask(teacher, pictures, way)
        reference = logits if reference is None else reference
        difference = (logits - reference).std() / reference.std()
        same = (logits.argmax(1) == reference.argmax(1)).float().mean()
        scores = [mean_and_interval(score_episodes(features, batch)) for batch in drawn]
        cells = [f"{100 * mean:.1f} ± {100 * interval:.1f}" for mean, interval in scores]
        print(f"| {name} | {difference:.3f} | {same:.0%} | {cells[0]} | {cells[1]} |", flush=True)


@torch.no_grad()
def ask(
    teacher: Teacher, pictures: Sequence[Image.Image], way: Callable[[Image.Image], Tensor]
) -> tuple[Tensor, Tensor]:
    """Features and logits of all pictures, resized one way."""
    answers = []
    for start in range(0, len(pictures), CHUNK):
        batch = torch.stack([way(picture) for picture in pictures[start : start + CHUNK]])
        answers.append(teacher(batch))
    return torch.cat([answer.features for answer in answers]), torch.cat([answer.logits for answer in answers])


def ways(teacher: Teacher) -> dict[str, Callable[[Image.Image], Tensor]]:
    """Each way from a picture to (C, H, W) in [0, 1] at the teacher's size; timm's own comes first."""
    cfg: Any = teacher.network.pretrained_cfg
    size, filter_name = teacher.record.input_size[-1], teacher.record.interpolation
    data_config = timm.data.resolve_data_config({}, model=teacher.network)
    plain = {**data_config, "mean": (0.0,) * 3, "std": (1.0,) * 3}  # the teacher normalizes by itself
    shorter = int(size / cfg.get("crop_pct", 0.875))

    def tensor(picture: Image.Image) -> Tensor:
        return timm.data.transforms.MaybePILToTensor()(picture)[None].float() / 255

    def squashed(mode: str) -> Callable[[Image.Image], Tensor]:
        def way(picture: Image.Image) -> Tensor:
            resized = F.interpolate(tensor(picture), (size, size), mode=mode, antialias=True, align_corners=False)
            return resized.clamp(0, 1)[0]

        return way

    def cropped(picture: Image.Image) -> Tensor:
        width, height = picture.size
        scale = shorter / min(width, height)
        full = (int(height * scale), int(width * scale))
        resized = F.interpolate(tensor(picture), full, mode=filter_name, antialias=True, align_corners=False)
        top, left = (round((side - size) / 2) for side in full)
        return resized.clamp(0, 1)[0, :, top : top + size, left : left + size]

    def by_pillow(picture: Image.Image) -> Tensor:
        return tensor(picture.resize((size, size), Image.Resampling[filter_name.upper()]))[0]

    return {
        "timm's evaluation transform": timm.data.create_transform(**plain, is_training=False),
        "bilinear, whole picture": squashed("bilinear"),
        f"{filter_name}, whole picture": squashed(filter_name),
        f"{filter_name} by Pillow, whole picture": by_pillow,
        f"{filter_name}, shorter side {shorter}, center cropped": cropped,
    }


if __name__ == "__main__":
    main()
