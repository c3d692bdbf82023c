"""The default learner: teachers are asked about pictures, and one small network learns all their answers.

FREE tells the learner what one teacher says about the five classes of one task. Here a picture recovered from one
teacher, or merely drawn, is shown to others as well; the learner predicts all logits at once from one feature vector
(a linear projection). Where the answers agree they show what the teachers' classes have in common, so the predicted
answers serve as the embedding in which new classes are told apart.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from hf_free.config.sections import BellConfig
from hf_free.data.logit_rows import LogitRows
from hf_free.data.logits import CenterPerTeacher, LogitLayout
from hf_free.inversion.task import RecoveredTask
from hf_free.learner.batchnorm import answering, draws_in_training
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import Sample, TaskMemory
from hf_free.metalearning.base import BY_ITSELF, Moment, Rehearsal
from hf_free.metalearning.clipping import clip_gradients
from hf_free.metalearning.muon import muon_or_adamw
from hf_free.metalearning.shared_learner import SharedLearner, load_moments, whole_moments
from hf_free.runtime.allocator import give_back_memory
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision, is_out_of_memory
from hf_free.runtime.loss_scale import LossScale
from hf_free.runtime.memory_budget import pictures_at_once
from hf_free.runtime.memory_order import keep_memory_order
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams, Stream
from hf_free.runtime.together import Together

logger = logging.getLogger(__name__)

LEAST_SPREAD = 1e-6
"""Below this sum of squares a teacher's answers to a batch count as all alike: there is nothing to learn from them."""


FIRST_IMAGES = 4
"""Pictures of the smallest update that is tried out."""


SCORED_AT_ONCE = 256
"""Held-out pictures whose answers are predicted in one pass, where nobody says how many."""


def number_of_parts(count: int, most: int | None) -> int:
    """Nearly equal parts of a batch, each of at most `most` pictures and at least two, which BatchNorm needs.

    Args:
        count: Pictures of the batch.
        most: Most pictures at once; None takes all. Parts of three stay where parts of two would leave one picture
            alone.
    """
    return 1 if most is None else max(1, min(-(-count // most), count // 2))


def answer_loss(
    predicted: Tensor, answers: LogitRows, center: CenterPerTeacher, *, spread_of: LogitRows | None = None
) -> dict[str, Tensor]:
    """Squared error of predicted logits, each teacher in units of its own answers' spread.

    Matching logits is distillation at high temperature (Hinton et al. 2015, section 2.1; Ba & Caruana 2014); unlike a
    divergence of probabilities it keeps what a confident teacher says of the classes it rules out.

    Args:
        predicted: (B, A).
        answers: B rows; answers that are NaN or missing do not count, nor does a teacher that gives all its classes
            one and the same logit.
        center: The teachers' groups.
        spread_of: Answers whose spread is the unit; None takes `answers`. With those of a whole batch, the losses of
            its parts add up to that of the batch.

    Returns:
        `answers`: the mean of squared error over mean square, over the teachers that say something; 1 is what
        predicting zero would give.
    """
    error = _squares(answers, center, predicted.float())
    spread = _squares(answers if spread_of is None else spread_of, center)
    shares = error / spread.clamp_min(LEAST_SPREAD)
    says = spread > LEAST_SPREAD
    return {"answers": torch.where(says, shares, 0).sum() / says.sum().clamp_min(1)}


def _squares(answers: LogitRows, center: CenterPerTeacher, predicted: Tensor | None = None) -> Tensor:
    """Sum of squares of each teacher's centered answers that are known -> (T,); of their difference to predicted ones
    (B, A) where these are given. Of predictions, only the columns of those who were asked are read."""
    known = ~answers.values.isnan()
    if answers.blocks is None:
        off = center(answers.values.nan_to_num())
        if predicted is not None:
            off = center(predicted) - off
        squares, groups = (off.square() * known).sum(0), center.groups
    else:
        placed = answers.placed()

        def centered(values: Tensor) -> Tensor:
            sums = values.new_zeros(placed.counts.shape).scatter_add(1, placed.slots, values * placed.is_inside)
            return values - (sums / placed.counts.clamp_min(1)).gather(1, placed.slots)

        off = centered(answers.values.nan_to_num())
        if predicted is not None:
            off = centered(predicted.gather(1, placed.columns)) - off
        squares = (off.square() * (known & placed.is_inside)).flatten()
        groups = placed.owners.flatten()
    return squares.new_zeros(len(center.sizes)).index_add(0, groups, squares)


class Distiller:
    """Learns the answers of all teachers to the pictures in the memory.

    Args:
        learner: Its projection predicts the answers.
        layout: Where whose answers stand.
        config: Rates and sizes.
        precision: Autocast type.
        streams: Where random numbers come from.
        chains: The parts of a step's work.
    """

    asks_teachers = True
    needs_new_tasks = False

    def __init__(
        self,
        learner: MetaLearner,
        layout: LogitLayout,
        config: BellConfig,
        precision: Precision,
        *,
        streams: RandomStreams = UNSEEDED,
        chains: Chains = ONE_CHAIN,
    ) -> None:
        self.learner, self.layout, self.config, self.precision = learner, layout, config, precision
        self.streams, self.chains = streams, chains
        self.center = CenterPerTeacher(layout.sizes).to(learner.device)
        self._shared = SharedLearner(learner) if config.shard_learner and chains.ranks.count > 1 else None
        self._trained = learner if self._shared is None else self._shared.network
        self._parameters = (
            [p for p in learner.parameters() if p.requires_grad] if self._shared is None else self._shared.parameters
        )
        optimizer = keep_memory_order(muon_or_adamw(self._parameters, config, learner.device))
        self.optimizer = clip_gradients(optimizer, config.max_grad_norm)
        self._scale = LossScale() if precision.scales_loss else None
        self._fits: int | None = None
        """Pictures that a pass was cut down to when memory ran out."""
        self._moments: dict[str, Tensor] = {}
        self._peak_rates = [group["lr"] for group in self.optimizer.param_groups]
        self._answering = Together(lambda: answering(learner, learner))

    @property
    def answers_beside(self) -> bool:
        """See `hf_free.metalearning.base.Objective`; one that is shared out is asked by all processes in turn."""
        return self._shared is None and not draws_in_training(self.learner)

    def step(self, tasks: Sequence[RecoveredTask], memory: TaskMemory, moment: Moment) -> dict[str, float]:
        """`updates_per_step` updates on random pictures of the memory, whichever teacher they came from."""
        self.learner.train()
        self._trained.train()
        for group, peak in zip(self.optimizer.param_groups, self._peak_rates, strict=True):
            group["lr"] = peak * moment.rate
        total, stream = torch.zeros((), device=self.learner.device), self.streams.stream("batches")
        for _ in range(self.config.updates_per_step):
            total += self.update(memory.sample(self.config.batch_size, stream), moment)
        if self._shared is not None:
            self._shared.give_to(self.learner)
        return {"answers": total.item() / self.config.updates_per_step}  # the step's one wait for the device

    def update(self, sample: Sample, moment: Moment = BY_ITSELF) -> Tensor:
        """One update on a batch -> its loss.

        Each chain of the run takes a part of the batch, and one larger than the moment's `at_once` in nearly equal
        parts again. Their gradients add up to the whole batch's, except that BatchNorm normalizes each part by itself
        (ghost batches, Hoffer et al. 2017, section 3.1). In fp16 an update whose gradient is not finite is left out.
        """
        total = self._add_up_gradients(sample, moment)
        if self._scale is None or self._scale.unscale(self._parameters):
            self.optimizer.step()
        return total

    def _add_up_gradients(self, sample: Sample, moment: Moment) -> Tensor:
        answers = sample.answers.to(self.learner.device)
        self.optimizer.zero_grad(set_to_none=True)
        sizes = self.chains.sizes(len(answers))
        parts = list(zip(sample.images.split(sizes), answers.split(sizes), strict=True))
        step = self.chains.step if self._shared is None else self.chains.step_shared_out
        return step(
            self._trained,
            lambda chain: self._learn_what_fits(*parts[chain], answers, moment),
            may_overflow=self._scale is not None,
        )

    def preferred(self, usable: Sequence[int], stream: Stream) -> Sequence[int]:
        """All teachers are alike; see `hf_free.metalearning.base.Objective`."""
        return usable

    @torch.no_grad()
    def score(self, held_out: TaskMemory, episodes: int, *, at_once: int | None = None) -> float:
        """Minus the loss on the held-out pictures: 0 is perfect, -1 what predicting nothing gives, -inf unknown."""
        self.learner.eval()
        count = len(held_out)
        if not count:
            return -math.inf
        most = min(at_once or SCORED_AT_ONCE, pictures_at_once(held_out.images.shape[-1]))
        parts = held_out.images[:count].split(most)
        predicted = torch.cat([self._predict(part.to(self.learner.device).float() / 255) for part in parts])
        known = held_out.said().to(self.learner.device, torch.float32)
        return -answer_loss(predicted, known, self.center)["answers"].item()

    def student(self, images: Tensor, teacher: int) -> Tensor:
        """The predicted logits of one teacher; see `hf_free.metalearning.base.Objective`."""
        with self._answering:
            return self._predict(images)[:, self.layout.columns(teacher)]

    def rehearsal(self) -> Rehearsal:
        """One update of a copy; see `hf_free.metalearning.base.Objective`."""
        learner = copy.deepcopy(self.learner)
        config = replace(self.config, gradient_accumulation_steps=1, shard_learner=False)  # passes are looked at
        copied = Distiller(learner, self.layout, config, self.precision)
        size, channels = learner.config.image_size, learner.config.channels

        def learn(count: int) -> None:
            learner.train()
            images = torch.randint(256, (count, channels, size, size), dtype=torch.uint8)
            sample = Sample(images, LogitRows(torch.randn(count, self.layout.width), tuple(self.layout.sizes)))
            if self._shared is None:
                copied.update(sample)
            else:  # no process has room for all moments
                copied.lose_gradients(sample)

        most = self.config.batch_size
        return Rehearsal("an update of the learner", learn, min(FIRST_IMAGES, most), most, learner)

    def lose_gradients(self, sample: Sample) -> None:
        """The passes of an update, without the update: nothing is learned."""
        self._add_up_gradients(sample, BY_ITSELF)
        self.optimizer.zero_grad(set_to_none=True)

    def modules(self) -> dict[str, nn.Module]:
        """No modules: the learner holds everything."""
        return {}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The one that updates the learner; what is shared out is in `tensors`."""
        return [] if self.config.shard_learner else [self.optimizer]

    def bring_together(self) -> None:
        """Gather the moments of a learner that is shared out."""
        if self.config.shard_learner:
            self._moments = whole_moments(self.optimizer)

    def tensors(self) -> dict[str, Tensor]:
        """The factor on the loss, and the moments of a learner that is shared out, as last gathered."""
        scale = {} if self._scale is None else {"loss_scale": self._scale.state()}
        return {**scale, **self._moments}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        if self._scale is not None and "loss_scale" in tensors:
            self._scale.load(tensors["loss_scale"])
        if self.config.shard_learner:
            load_moments(self.optimizer, tensors)
        if self._shared is not None:
            self._shared.take_from(self.learner)

    def _learn_what_fits(self, images: Tensor, said: LogitRows, answers: LogitRows, moment: Moment) -> Tensor:
        """`_learn`, in passes of half as many pictures each time that memory runs out, from then on for good.

        As Accelerate's `find_executable_batch_size`, which takes a MemoryError for another error. Each process does
        so by itself: the parts add up to the batch all the same.
        """
        while True:
            count = self._passes(len(said), moment)
            try:
                return self._learn(images, said, answers, moment, count)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or count >= len(said) // 2 or self._shared is not None:
                    raise
            self._fits = max(2, -(-len(said) // (2 * count)))
            for parameter in self._parameters:
                parameter.grad = None
            give_back_memory()
            if self.learner.device.type == "cuda":
                torch.cuda.empty_cache()
            logger.warning("memory ran out: the learner takes %d pictures at once from here on", self._fits)

    def _passes(self, count: int, moment: Moment) -> int:
        most = min((number for number in (moment.at_once, self._fits) if number is not None), default=None)
        return max(number_of_parts(count, most), min(self.config.gradient_accumulation_steps, max(1, count // 2)))

    def _learn(self, images: Tensor, said: LogitRows, answers: LogitRows, moment: Moment, count: int) -> Tensor:
        """The backward passes of some pictures of a batch, whose answers are `answers`; their part of its loss."""
        device, total = self.learner.device, torch.zeros((), device=self.learner.device)
        is_whole = count == 1 and len(said) == len(answers)
        factor = 1.0 if self._scale is None else self._scale.factor
        if self._shared is not None:
            factor *= self.chains.count  # its backward pass takes the mean over the processes
        for part, wanted in zip(images.tensor_split(count), said.tensor_split(count), strict=True):
            moment.pause()
            predicted = self._answer(self._trained, part.to(device).float() / 255)
            terms = answer_loss(predicted, wanted, self.center, spread_of=None if is_whole else answers)
            loss = torch.stack(list(terms.values())).sum()
            (loss if factor == 1 else factor * loss).backward()
            total += loss.detach()
        return total

    def _predict(self, images: Tensor) -> Tensor:
        return self._answer(self.learner, images)

    def _answer(self, learner: MetaLearner, images: Tensor) -> Tensor:
        with self.precision.autocast(images.device):
            return learner.raw_answers(self.precision.layout(images))
