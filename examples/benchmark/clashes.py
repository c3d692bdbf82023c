"""Are two teachers' classes the same class? What the teachers' answers say, against the names they really have.

python examples/benchmark clashes ZOO [--pictures 2000] [--episodes 3000]

ZOO is a folder of teachers whose label_names are right; they are only used to judge. Prints a table of thresholds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from hf_free.data.class_matching import CLASH_SCORE, clash_scores
from hf_free.data.logits import LogitLayout
from hf_free.data.procedural.dead_leaves import dead_leaves
from hf_free.inversion.task import to_uint8
from hf_free.metalearning.replay import draw_classes
from hf_free.runtime.device import Precision
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.soft_labels import label, teacher_sources


def main() -> None:
    """Ask every teacher about drawn pictures, and count what the answers' correlations find."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--episodes", type=int, default=3000)
    wanted = parser.parse_args()
    torch.manual_seed(0)

    pool = TeacherPool(sorted(str(path.parent) for path in wanted.zoo.glob("*/config.json")))
    layout = LogitLayout.of([record.num_classes for record in pool.records])
    pictures = dead_leaves(wanted.pictures, 32, generator=torch.Generator().manual_seed(0))
    answers = label(
        teacher_sources(pool, layout), to_uint8(pictures), layout, Precision.choose("auto", torch.device("cpu"))
    )
    scores = clash_scores(answers)

    names = [name for record in pool.records for name in record.label_names or ()]
    numbers = torch.tensor([sorted(set(names)).index(name) for name in names])
    teachers = torch.arange(len(pool)).repeat_interleave(torch.tensor(layout.sizes))
    others = teachers[:, None] != teachers
    same = (numbers[:, None] == numbers) & others

    print(f"{len(names)} classes of {len(pool)} teachers, {len(set(names))} names, {len(pictures)} drawn pictures")
    print("threshold  share of pairs  precision  recall  episodes of 5 with one class under two labels")
    for threshold in (2.0, 0.25, 0.3, CLASH_SCORE, 0.4, 0.45, 0.5):
        clash = (scores >= threshold) & others
        right = (clash & same).sum()
        double = 0
        for _ in range(wanted.episodes):
            drawn = numbers[draw_classes(range(len(names)), clash, 5)]
            double += len(set(drawn.tolist())) < len(drawn)
        share, precision, recall = clash.sum() / others.sum(), right / clash.sum().clamp_min(1), right / same.sum()
        shown = "no word" if threshold > 1 else f"{threshold:.2f}"
        print(f"{shown:9}  {share:14.4f}  {precision:9.2f}  {recall:6.2f}  {double / wanted.episodes:.3f}")


if __name__ == "__main__":
    main()
