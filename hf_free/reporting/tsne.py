"""The t-SNE map of one image set under each teacher, as in FREE's figure 1."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from hf_free.reporting.style import INK, RULE, new_figure, plain_text, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def feature_map(
    features_by_teacher: Mapping[str, Tensor],
    labels: Tensor,
    path: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    title: str | None = None,
    seed: int = 0,
) -> Path:
    """Draw the t-SNE map of the same images under each teacher: one panel per teacher, one color per class.

    This is the picture of FREE's figure 1: teachers that were trained on different tasks order the same images
    differently. t-SNE (van der Maaten and Hinton 2008) keeps neighborhoods, not distances between groups.

    Args:
        features_by_teacher: Features (N, D) of the same N images under each teacher; D may differ.
        labels: Class of each image, shape (N,).
        path: File to write (PNG).
        class_names: Names for the legend.
        title: Line above the panels; None says how many teachers there are.
        seed: Seed of t-SNE.

    Returns:
        The path written.

    Raises:
        ValueError: no teacher, fewer than four images, or lengths that differ.
    """
    if not features_by_teacher or len(labels) < 4:
        raise ValueError(f"{len(features_by_teacher)} teachers, {len(labels)} images; 1 and 4 are needed at least")
    if any(len(features) != len(labels) for features in features_by_teacher.values()):
        raise ValueError(f"every teacher needs features of all {len(labels)} images")
    title = title or f"One image set under {len(features_by_teacher)} teacher(s): t-SNE of its features"
    columns = 3 if len(features_by_teacher) in (5, 6, 9) else min(4, len(features_by_teacher))  # no empty corner
    lines = math.ceil(len(features_by_teacher) / columns)
    width, height = 2.5 * columns + 0.36, 2.75 * lines + 1.0
    figure = new_figure(max(width, 0.1 * len(title) + 0.4), height, title)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_visible(False)
    kinds = torch.unique(labels).tolist()
    for axes, (name, features) in zip(panels.flat, features_by_teacher.items(), strict=False):
        axes.set_visible(True)
        _draw_map(axes, plain_text(name, 34), in_plane(features, seed), labels.cpu().numpy(), kinds)
    handles, texts = panels.flat[0].get_legend_handles_labels()
    if class_names is not None:
        texts = [plain_text(class_names[kind], 30) for kind in kinds]
    a_row = max(1, min(len(kinds), 10, int(width / (0.42 + 0.055 * max(map(len, texts))))))  # inches per entry
    a_row = math.ceil(len(kinds) / math.ceil(len(kinds) / a_row))  # rows of one length
    figure.legend(handles, texts, loc="lower center", ncols=a_row, fontsize=7, frameon=False, markerscale=2)
    below = 0.3 + 0.17 * math.ceil(len(kinds) / a_row)
    figure.subplots_adjust(
        left=0.18 / width,
        right=1 - 0.18 / width,
        bottom=below / height,
        top=1 - 0.75 / height,
        wspace=0.08,
        hspace=0.2,
    )
    return save_figure(figure, path)


def in_plane(features: Tensor, seed: int) -> np.ndarray:
    """(N, D) -> (N, 2) by t-SNE on L2-normalized features, started from the principal components."""
    from sklearn.manifold import TSNE

    values = torch.nn.functional.normalize(features.detach().float().cpu().flatten(1), dim=1).numpy()
    perplexity = min(30.0, (len(values) - 1) / 3)
    start = "pca" if values.shape[1] >= 2 else "random"
    # half of scikit-learn's 1,000 iterations: a few hundred points have settled by then
    return TSNE(init=start, perplexity=perplexity, random_state=seed, max_iter=500).fit_transform(values)


def _draw_map(axes: Axes, name: str, points: np.ndarray, labels: np.ndarray, kinds: Sequence[int]) -> None:
    palette = colormaps["tab10" if len(kinds) <= 10 else "tab20"]
    for position, kind in enumerate(kinds):
        chosen = points[labels == kind]
        axes.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=7,
            color=palette(position % palette.N),
            alpha=0.8,
            linewidths=0,
            label=str(kind),
        )
    axes.set_title(name, size=8.5, color=INK, loc="left")
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_color(RULE)
