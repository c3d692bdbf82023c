"""Maps of features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import pixels

from hf_free.reporting.tsne import feature_map, in_plane


def test_feature_map_separates_what_a_teacher_separates(tmp_path):
    labels = torch.arange(3).repeat_interleave(12)
    noise = torch.randn(36, 6, generator=torch.Generator().manual_seed(0))
    apart = noise + 20 * torch.eye(6)[labels]
    points = in_plane(apart, seed=0)
    distances = torch.cdist(torch.tensor(points), torch.tensor(points)) + 1e9 * torch.eye(36)
    assert (labels[distances.argmin(1)] == labels).all()
    assert np.array_equal(points, in_plane(apart, seed=0))

    path = feature_map({"knows": apart, "does not": noise[:, :2]}, labels, tmp_path / "x.png", class_names=list("abc"))
    canvas = pixels(path)
    for color in ((31, 119, 180), (255, 127, 14), (44, 160, 44)):  # tab10's first three, a class each
        assert (np.abs(canvas - np.array(color)).sum(-1) < 110).mean() > 0.0005


def test_feature_map_refuses_sets_that_do_not_match(tmp_path):
    with pytest.raises(ValueError, match="features of all 5 images"):
        feature_map({"a": torch.rand(4, 2)}, torch.zeros(5), tmp_path / "x.png")
    with pytest.raises(ValueError, match="0 teachers"):
        feature_map({}, torch.zeros(5), tmp_path / "x.png")
