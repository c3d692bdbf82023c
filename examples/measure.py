"""Measure a learner on classes of your own, beside a network of the same kind that has learned nothing.

    python examples/measure.py runs/first/learner ./pictures --n-way 5

`pictures` has a folder per class; a data set's id or Parquet files work too. On the command line: `hf-free evaluate`.
"""

from __future__ import annotations

import argparse

from hf_free import Comparison, EpisodeSettings, MetaLearner, evaluate

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("learner", help="its folder, or its Hub id")
parser.add_argument("data", help="images of new classes")
parser.add_argument("--n-way", type=int, default=5, help="classes per episode")
parser.add_argument("--episodes", type=int, default=600, help="number of episodes")
options = parser.parse_args()

learner = MetaLearner.from_pretrained(options.learner)
episodes = EpisodeSettings(n_way=options.n_way, k_shots=(1, 5), episodes=options.episodes)
report = evaluate(learner, options.data, episodes, beside=Comparison(baselines="untrained"))
for row in report.rows:
    print(f"{row.method:<40} {row.k_shot}-shot {row.accuracy:5.1f} ± {row.interval:.1f} %")
for warning in report.warnings:
    print(f"Mind: {warning}")
