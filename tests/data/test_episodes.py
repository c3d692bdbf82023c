"""Episodes: what is drawn, and scores against a loop."""

from __future__ import annotations

import re

import pytest
import torch

from hf_free.data.episodes import sample_episodes
from hf_free.errors import DatasetError

LABELS = torch.arange(7).repeat_interleave(torch.tensor([20, 30, 6, 25, 40, 22, 20]))[
    torch.randperm(163, generator=torch.Generator().manual_seed(5))
]


def draw(labels=LABELS, *, n_way=5, k_shot=2, n_query=15, episodes=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return sample_episodes(labels, n_way=n_way, k_shot=k_shot, n_query=n_query, episodes=episodes, generator=generator)


def test_shapes_are_episodes_by_classes_by_pictures():
    batch = draw()
    assert batch.support.shape == (300, 5, 2)
    assert batch.query.shape == (300, 5, 15)
    assert len(batch) == 300


def test_each_episode_has_distinct_classes_and_pictures():
    batch = draw()
    for support, query in zip(batch.support, batch.query, strict=True):
        pictures = torch.cat([support, query], 1)
        assert len(set(pictures.flatten().tolist())) == 5 * 17
        of_class = LABELS[pictures]
        assert (of_class == of_class[:, :1]).all()
        assert len(set(of_class[:, 0].tolist())) == 5


def test_a_class_with_too_few_pictures_is_never_drawn():
    classes = set(LABELS[draw().support].flatten().tolist())
    assert classes == {0, 1, 3, 4, 5, 6}


def test_classes_and_pictures_are_drawn_evenly():
    labels = torch.arange(4).repeat_interleave(10)
    batch = draw(labels, n_way=2, k_shot=1, n_query=4, episodes=8000)
    of_class = torch.bincount(labels[batch.support.flatten()], minlength=4) / 8000
    assert of_class.tolist() == pytest.approx([0.5] * 4, abs=0.03)  # 5 standard deviations
    of_picture = torch.bincount(batch.support.flatten(), minlength=40) / 8000
    assert of_picture.tolist() == pytest.approx([0.05] * 40, abs=0.012)


def test_one_seed_gives_one_set_of_episodes():
    assert torch.equal(draw(seed=3).query, draw(seed=3).query)
    assert not torch.equal(draw(seed=3).query, draw(seed=4).query)


def test_drawing_in_pieces_obeys_the_same_rules(monkeypatch):
    monkeypatch.setattr("hf_free.data.episodes._RANDOM_KEYS", 5 * 40 * 7)
    batch = draw(episodes=20)
    pictures = torch.cat([batch.support, batch.query], 2).flatten(1)
    assert batch.support.shape == (20, 5, 2)
    assert all(len(set(row.tolist())) == 85 for row in pictures)


def test_too_few_classes_say_how_many_there_are():
    with pytest.raises(DatasetError, match=r"8-way episodes out of 7 classes[\s\S]*at most 7[\s\S]*--n-way 6"):
        draw(n_way=8)


def test_too_few_pictures_say_what_would_fit():
    with pytest.raises(DatasetError, match=r"only 2 of 7 classes have 30[\s\S]*at most 20[\s\S]*--n-query 5"):
        draw(k_shot=15, n_query=15)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        *(([9], (2, 1, 1)), ([], (5, 1, 15)), ([9, 9], (5, 5, 15)), ([9, 1], (2, 1, 1)), ([1, 1, 1], (2, 1, 1))),
        *(
            ([20, 20, 2, 2, 2], (5, 5, 15)),
            ([3, 3, 3], (3, 5, 15)),
            ([9, 5, 1, 1], (4, 2, 2)),
            ([40, 40, 3], (5, 1, 9)),
        ),
    ],
)
def test_advice_is_none_or_works(counts, wanted):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts, dtype=torch.long))
    asked = dict(zip(("n_way", "k_shot", "n_query"), wanted, strict=True))
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(DatasetError) as caught:
        sample_episodes(labels, **asked, episodes=3, generator=generator)
    advice = re.findall(r"--(n-way|k-shot|n-query) (\d+)", caught.value.action)
    if sum(count > 1 for count in counts) < 2:
        assert not advice
        assert "another data set" in caught.value.action
    else:
        advised = asked | {flag.replace("-", "_"): int(number) for flag, number in advice}
        assert advised != asked
        assert len(sample_episodes(labels, **advised, episodes=3, generator=generator)) == 3


@pytest.mark.parametrize(("name", "value"), [("n_way", 1), ("k_shot", 0), ("n_query", 0), ("episodes", 0)])
def test_empty_episodes_are_refused(name, value):
    with pytest.raises(DatasetError, match=rf"{name}={value}\n.*a whole number of at least {value + 1}"):
        draw(**{name: value})


def test_no_pictures_are_refused():
    with pytest.raises(DatasetError, match="out of 0 classes"):
        draw(torch.zeros(0, dtype=torch.long))
