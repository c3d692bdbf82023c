"""Draw the README's picture: what one small classifier was trained on, and what its weights alone give back.

    python examples/benchmark picture docs/recovered.png

About half a minute on one core; nothing is downloaded. The digits come with scikit-learn.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from hf_free.demo.digits import drawn_digits
from hf_free.demo.small_teachers import ClassifierRecipe, train_classifier
from hf_free.inversion.five import invert_teacher
from hf_free.reporting.style import INK, MUTED, new_figure, plain_text, save_figure
from hf_free.teachers.saving import build_teacher, record_for

DIGITS, SHOWN, STEPS = (0, 3, 4, 6), 7, 200
CELL, LEFT, TOP, GAP = 0.42, 0.62, 0.5, 0.4  # inches
RECIPE = ClassifierRecipe(architecture="conv4_32", epochs=5, batch_size=64, lr=4e-3, shift=2, flip=False)

data = drawn_digits(DIGITS, copies=3, split="train")
images = data.at_size(32)
trained = train_classifier(RECIPE, images, data.labels)
record = record_for(trained.network, mean=trained.mean, std=trained.std, input_size=trained.input_size)
teacher = build_teacher(trained.network, replace(record, label_names=tuple(data.class_names)))
task = invert_teacher(teacher, steps=STEPS, images_per_class=SHOWN)

width = LEFT + 2 * SHOWN * CELL + GAP + 0.15
figure = new_figure(width, TOP + len(DIGITS) * CELL + 0.15)
axes = figure.add_axes((0, 0, 1, 1))
axes.set(xlim=(0, width), ylim=(figure.get_figheight(), 0))
axes.axis("off")
right = LEFT + SHOWN * CELL + GAP
for x, title in ((LEFT, "trained on (never read by hf-free)"), (right, "recovered from the weights alone")):
    axes.text(x, 0.28, plain_text(title), size=9, weight="bold", color=INK)
for row, name in enumerate(data.class_names):
    y = TOP + row * CELL
    axes.text(LEFT - 0.1, y + CELL / 2, name, size=8, color=MUTED, ha="right", va="center")
    for x, pictures in ((LEFT, images[data.labels == row]), (right, task.images[task.labels == row])):
        for column, picture in enumerate(pictures[:SHOWN]):
            at = x + column * CELL
            shown = picture.permute(1, 2, 0).numpy()
            axes.imshow(shown, extent=(at, at + CELL - 0.04, y + CELL - 0.04, y), interpolation="nearest")
axes.set(xlim=(0, width), ylim=(figure.get_figheight(), 0))
path = save_figure(figure, Path(sys.argv[1] if len(sys.argv) > 1 else "docs/recovered.png"))
print(f"{path}: the classifier recognizes {task.health.accuracy:.0%} of the recovered pictures")
