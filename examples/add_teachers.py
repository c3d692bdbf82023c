"""Add teachers to a learner: it keeps what it knows of its own, and none of them is needed again.

    python examples/add_teachers.py runs/first org/model-c org/model-d --output runs/second

On the command line: `hf-free train --from runs/first --models org/model-c org/model-d --output runs/second`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_free import FreeConfig, train

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("learner", help="the learner to go on from: a run's folder, a learner's, or a Hub id")
parser.add_argument("models", nargs="+", metavar="MODEL", help="the teachers to add, one or more")
parser.add_argument("--minutes", type=float, default=5.0, help="training time at most")
parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="any other setting")
parser.add_argument("--output", type=Path, required=True, help="folder of the new run")
options = parser.parse_args()

values = {
    "models": options.models,
    "learner": {"init_from": options.learner},
    "trainer": {"max_minutes": options.minutes},
}
learner = train(FreeConfig.load(values=values, assignments=options.set), output=options.output)
print(f"{len(learner.record.teachers)} teachers now, {learner.record.teachers_before} of them from before")
