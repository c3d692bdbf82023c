"""From a few classifiers to a learner of new classes, in Python; the command line does the same with three verbs.

    python examples/quickstart.py org/model-a org/model-b ./a-local-model --minutes 5

Teachers are timm image classifiers: Hub ids or folders with config.json and model.safetensors. The images to name
are handwritten digits, which come with scikit-learn, so that the example needs no data set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sklearn.datasets import load_digits

from hf_free import FreeConfig, MetaLearner, train

SHOTS, NEW = 5, (7, 8, 9)
"""Examples of each new class, and these classes."""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("models", nargs="+", metavar="MODEL", help="two or more teachers")
parser.add_argument("--minutes", type=float, default=5.0, help="training time at most")
parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="any other setting")
parser.add_argument("--output", type=Path, default=Path("runs/quickstart"), help="folder of the run")
options = parser.parse_args()

# 1. Train: no data, only the teachers. What is not given is as the method `default` has it.
values = {"models": options.models, "trainer": {"max_minutes": options.minutes}}
train(FreeConfig.load(values=values, assignments=options.set), output=options.output)

# 2. Load: the folder that `hf-free push` publishes; a Hub id works alike.
learner = MetaLearner.from_pretrained(options.output / "learner")

# 3. Adapt: a few labeled images of classes that no teacher knows; files, PIL images and tensors work too.
digits = load_digits()
images = (digits.images / 16)[..., None].repeat(3, -1)  # (N, 8, 8, 3), 0 to 1
examples = [place for digit in NEW for place in (digits.target == digit).nonzero()[0][:SHOTS]]
classifier = learner.adapt(images[examples], [str(digit) for digit in digits.target[examples]])

# 4. Predict.
others = [place for digit in NEW for place in (digits.target == digit).nonzero()[0][SHOTS:]]
predicted = classifier.predict(images[others])
right = sum(name == str(digit) for name, digit in zip(predicted, digits.target[others], strict=True))
print(f"{SHOTS} examples of each of {', '.join(classifier.classes)}: {right} of {len(others)} others named right")
