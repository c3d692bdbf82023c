"""From a few classifiers to a learner of new classes, in Python; the command line does the same with three verbs.

    python examples/quickstart.py org/model-a org/model-b ./a-local-model --minutes 5

Teachers are timm image classifiers: Hub ids or folders with config.json and model.safetensors. The pictures to name
are handwritten digits in colour, which come with scikit-learn, so that the example needs no data set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console

from hf_free import FreeConfig, MetaLearner, train
from hf_free.demo.digits import drawn_digits

SHOTS = 5
"""Examples of each new class."""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("models", nargs="+", metavar="MODEL", help="two or more teachers")
parser.add_argument("--minutes", type=float, default=5.0, help="training time")
parser.add_argument("--output", type=Path, default=Path("runs/quickstart"), help="folder of the run")
options = parser.parse_args()

# 1. Train: no data, only the teachers. What is not given is as the recipe has it, `default` here.
config = FreeConfig.from_dict({"models": options.models, "trainer": {"max_minutes": options.minutes}})
train(config, output=options.output, console=Console(stderr=True))

# 2. Load: the folder that `hf-free push` publishes; a Hub id works alike.
learner = MetaLearner.from_pretrained(options.output / "learner")

# 3. Adapt: a few labelled pictures (PIL pictures or tensors) of classes that no teacher knows.
digits = drawn_digits((7, 8, 9))
support = torch.cat([(digits.labels == label).nonzero().flatten()[:SHOTS] for label in range(3)])
is_query = torch.ones(len(digits), dtype=torch.bool)
is_query[support] = False
names = [digits.class_names[label] for label in digits.labels.tolist()]
classifier = learner.adapt(digits.images[support], [names[place] for place in support.tolist()])

# 4. Predict.
queries = is_query.nonzero().flatten()
predicted = classifier.predict(digits.images[queries])
right = sum(name == names[place] for name, place in zip(predicted, queries.tolist(), strict=True))
print(f"{SHOTS} examples of each of {', '.join(classifier.classes)}: {right} of {len(queries)} others named right")
