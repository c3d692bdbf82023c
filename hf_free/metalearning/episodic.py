"""What the ways of learning by episodes share: one head, replay of cross-task episodes by MAML, score and student.

BELL as published (`hf_free.metalearning.bell`), TGR (`hf_free.metalearning.regularize`) and PURER
(`hf_free.metalearning.episodes`) differ in what they learn from a step's new tasks, and in how long they replay.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig
from hf_free.data.class_matching import (
    CLASH_SCORE,
    SURER_CLASH_SCORES,
    clashes_of_groups,
    find_clashes,
    freest_first,
    group_by_name,
    some_apart,
)
from hf_free.data.episodes import EpisodeBatch, sample_episodes
from hf_free.data.logits import LogitLayout
from hf_free.inversion.task import Health, RecoveredTask
from hf_free.learner.batchnorm import answering, draws_in_training
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.scoring import score_episodes
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment, Rehearsal
from hf_free.metalearning.clipping import clip_gradients
from hf_free.metalearning.replay import draw_classes, draw_episode, maml_query_loss
from hf_free.runtime.chains import ONE_CHAIN, Chains
from hf_free.runtime.device import Precision
from hf_free.runtime.memory_order import keep_memory_order
from hf_free.runtime.random_streams import UNSEEDED, RandomStreams, Stream
from hf_free.runtime.together import Together

LEAST_SUPPORT = 2
"""Support pictures of the smallest episode that is rehearsed: BatchNorm needs two."""


def distillation_loss(
    logits: Tensor, soft_labels: Tensor, *, temperature: float = 1.0, of_probabilities: bool = False
) -> Tensor:
    """Divergence of a learner's answers from its teacher's, KL(teacher || learner), mean over pictures.

    Args:
        logits: The learner's (B, n).
        soft_labels: The teacher's probabilities (B, n).
        temperature: Both are softened by it.
        of_probabilities: The released FREE code's form, in which `kl_div` gets probabilities in place of their
            logarithms, and takes the mean over all numbers.
    """
    if of_probabilities:
        return F.kl_div(logits.softmax(1), soft_labels, reduction="none").mean()
    softened = (soft_labels.log() / temperature).softmax(1)
    return F.kl_div((logits / temperature).log_softmax(1), softened, reduction="batchmean")


class EpisodicObjective:
    """A network with one head that learns from new tasks, as a subclass defines, then from cross-task episodes.

    Args:
        learner: The meta-learner.
        config: Rates and sizes.
        precision: Autocast type of the first-order part.
        teachers: Number of teachers.
        class_names: (teacher, class) -> name where names may be trusted, else an empty dictionary; classes of one
            name are one class of the cross-task episodes.
        layout: Where whose answers stand, for classes without a name; None asks no teacher which classes are one.
        flip: Whether pictures are flipped at random, beside shifts.
        defects: Defects of the released code to reproduce; None for none.
        streams: Where random numbers come from.
        chains: The parts of a step's work. New tasks go one after the other, so every process does all of them; the
            episodes of replay are shared out.
    """

    needs_new_tasks = True
    most_updates: float = math.inf
    """Most updates of replay in a step, where patience does not end it earlier."""

    def __init__(
        self,
        learner: MetaLearner,
        config: BellConfig,
        precision: Precision,
        *,
        teachers: int = 0,
        class_names: dict[tuple[int, int], str] | None = None,
        layout: LogitLayout | None = None,
        flip: bool = True,
        defects: Defects | None = None,
        streams: RandomStreams = UNSEEDED,
        chains: Chains = ONE_CHAIN,
    ) -> None:
        self.learner, self.config, self.precision, self.teachers = learner, config, precision, teachers
        self.class_names, self.flip, self.defects = class_names or {}, flip, defects or Defects()
        self.layout, self.asks_teachers, self.streams, self.chains = layout, layout is not None, streams, chains
        with streams.seeding("head"):
            head = nn.Linear(learner.backbone_dim, config.n_way)
        self.network = nn.Sequential(learner, head.to(learner.device))
        self.optimizer: torch.optim.Optimizer = clip_gradients(
            keep_memory_order(torch.optim.Adam(self.network.parameters(), lr=config.lr)), config.max_grad_norm
        )
        self._replay_weights: dict[str, Tensor] = {}
        self._answering = Together(lambda: answering(self.network, learner))

    @property
    def answers_beside(self) -> bool:
        """See `hf_free.metalearning.base.Objective`; other weights than its own are put into the network itself."""
        return not self.defects.student_keeps_replay_weights and not draws_in_training(self.network)

    def step(self, tasks: Sequence[RecoveredTask], memory: TaskMemory, moment: Moment) -> dict[str, float]:
        """The new tasks, then replay until it stops helping or the run's time is over.

        The papers keep one learning rate: the moment's factor is not used. See `hf_free.metalearning.base.Objective`.
        """
        self.network.train()
        terms = self.learn(tasks, memory, moment)
        return {**terms, **self._replay(memory, moment)}

    def learn(self, tasks: Sequence[RecoveredTask], memory: TaskMemory, moment: Moment) -> dict[str, float]:
        """What is learned from a step's new tasks before replay, as named terms for the log; here nothing."""
        return {}

    def fitting(self, tasks: Sequence[RecoveredTask]) -> list[RecoveredTask]:
        """The tasks for which the one head has enough outputs."""
        return [task for task in tasks if len(task.classes) <= self.config.n_way]

    def preferred(self, usable: Sequence[int], stream: Stream) -> Sequence[int]:
        """All teachers are alike; see `hf_free.metalearning.base.Objective`."""
        return usable

    def student(self, images: Tensor, teacher: int) -> Tensor:
        """The shared head's logits; `teacher` makes no difference. Sliced to the teacher's classes by the caller."""
        with self._answering:
            if self.defects.student_keeps_replay_weights and self._replay_weights:
                return functional_call(self.network, self._replay_weights, (images,))
            return self.network(images)

    def rehearsal(self) -> Rehearsal:
        """An episode of replay, by its query pictures; see `hf_free.metalearning.base.Objective`.

        In a smaller episode the support shrinks in proportion.
        """
        network, config = copy.deepcopy(self.network).train(), self.config
        learner: MetaLearner = network[0]  # type: ignore[assignment]
        size, channels = learner.config.image_size, learner.config.channels
        support, query = config.n_way * config.k_shot, config.n_way * config.n_query

        def drawn(count: int) -> tuple[Tensor, Tensor]:
            images = torch.randint(256, (count, channels, size, size), dtype=torch.uint8)
            return images, torch.arange(count) % config.n_way

        def replay(count: int) -> None:
            both = [drawn(max(LEAST_SUPPORT, round(count * support / query))), drawn(count)]
            seen, labels, asked, wanted = (tensor.to(learner.device) for pair in both for tensor in pair)
            steps, lr = config.replay_inner_steps, config.replay_inner_lr
            seen, asked = seen.float() / 255, asked.float() / 255
            loss, _, _ = maml_query_loss(network, seen, labels, asked, wanted, steps=steps, lr=lr)
            loss.backward()

        def align(count: int) -> None:
            images, labels = drawn(count)
            answers = torch.randn(count, config.n_way).softmax(1)
            classes = tuple(range(config.n_way))
            task = RecoveredTask(images, labels, answers, classes, 0, "rehearsal", Health(1.0, 0.0, 0.0))
            self.rehearse(task, network)

        least = min(query, math.ceil(LEAST_SUPPORT * query / support))
        whole = align if self.needs_new_tasks else None
        return Rehearsal("an episode of replay", replay, least, query, learner, whole)

    def rehearse(self, task: RecoveredTask, network: nn.Module) -> None:
        """One update on a new task, on a copy of the network, to measure what it takes."""

    def modules(self) -> dict[str, nn.Module]:
        """The shared head."""
        return {"head": self.network[1]}

    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizer of replay; alignment makes new ones."""
        return [self.optimizer]

    def bring_together(self) -> None:
        """Nothing is shared out: of sharded networks there are no second derivatives."""

    def tensors(self) -> dict[str, Tensor]:
        """The weights of the last replay episode, where a defect keeps using them."""
        return self._replay_weights if self.defects.student_keeps_replay_weights else {}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave."""
        self._replay_weights = {name: value.to(self.learner.device) for name, value in tensors.items()}

    def score(self, held_out: TaskMemory, episodes: int, *, at_once: int | None = None) -> float:
        """Accuracy of cross-task episodes of held-out recovered pictures, by nearest class mean."""
        n_way, needed = self.config.n_way, self.config.k_shot + 1
        classes, clash = self._classes(held_out, needed)
        if len(classes) < n_way:
            return -math.inf
        n_query = min(self.config.n_query, min(len(places) for places in classes.values()) - self.config.k_shot)
        features = self.learner.embed(held_out.images[: len(held_out)], batch_size=min(256, at_once or 256))
        places = torch.cat(list(classes.values()))
        labels = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(p) for p in classes.values()]))
        drawn = sample_episodes(
            labels,
            n_way=n_way,
            k_shot=self.config.k_shot,
            n_query=n_query,
            episodes=episodes,
            generator=torch.Generator().manual_seed(0),  # the same episodes at every checkpoint
        )
        met = labels[drawn.support[:, :, 0]]  # (E, n_way)
        met_twice = clash[met[:, :, None], met[:, None, :]].flatten(1).any(1)
        if not met_twice.all():
            drawn = EpisodeBatch(drawn.support[~met_twice], drawn.query[~met_twice])
        return score_episodes(features[places], drawn).mean().item()

    def _replay(self, memory: TaskMemory, moment: Moment) -> dict[str, float]:
        config = self.config
        classes, clash = self._classes(memory, config.k_shot + config.n_query)
        ids, stream = list(classes), self.streams.stream("episodes")
        if len(draw_classes(ids, clash, config.n_way, stream)) < config.n_way or not config.replay_tasks:
            return {}
        best, waited, accuracy, updates = 0.0, 0, 0.0, 0
        while waited < config.replay_patience and updates < self.most_updates and not (updates and moment.is_over()):
            accuracy = self._replay_update(memory, classes, ids, clash, moment)
            updates += 1
            best, waited = (accuracy, 0) if accuracy > best else (best, waited + 1)
        return {"replay_accuracy": accuracy, "replay_updates": float(updates)}

    def _classes(self, memory: TaskMemory, least: int) -> tuple[dict[int, Tensor], Tensor]:
        """Classes to draw episodes of: those of one name merged, each with at least that many pictures.

        Classes without a name are kept apart by how alike they are answered, the less strictly the fewer there are.

        Returns:
            Positions of each class's pictures by a number of its own, and which classes must not meet, (C, C) bool.
        """
        held = memory.pictures_by_class(1)
        keys = [memory.classes[i] for i in held]
        names = [self.class_names.get((key.teacher, key.index)) for key in keys]
        groups, pictures = group_by_name(names), list(held.values())
        merged = [torch.cat([pictures[place] for place in places]) for places in groups]
        kept = [number for number, places in enumerate(merged) if len(places) >= least]
        said = memory.said() if self.layout else None
        for score in (CLASH_SCORE, *SURER_CLASH_SCORES):
            clash = clashes_of_groups(find_clashes(keys, names, said, self.layout, score=score), groups)[kept][:, kept]
            if len(some_apart(clash, freest_first(clash, range(len(kept))), self.config.n_way)) == self.config.n_way:
                break
        return {number: merged[number] for number in kept}, clash

    def _replay_update(
        self, memory: TaskMemory, classes: dict[int, Tensor], ids: list[int], clash: Tensor, moment: Moment
    ) -> float:
        config, device, stream = self.config, self.learner.device, self.streams.stream("episodes")
        self.optimizer.zero_grad(set_to_none=True)
        episodes, ends = [], [0, *accumulate(self.chains.sizes(config.replay_tasks))]
        for _ in range(config.replay_tasks):
            chosen = draw_classes(ids, clash, config.n_way, stream)
            episodes.append(draw_episode(memory, classes, chosen, config.k_shot, config.n_query, stream))
        accuracies: dict[int, list[Tensor]] = {chain: [] for chain in self.chains.own}

        def replay(chain: int) -> Tensor:
            total = torch.zeros((), device=device)
            for support, support_labels, query, query_labels in episodes[ends[chain] : ends[chain + 1]]:
                moment.pause()
                loss, accuracy, weights = maml_query_loss(
                    self.network,
                    support.to(device).float() / 255,
                    support_labels.to(device),
                    query.to(device).float() / 255,
                    query_labels.to(device),
                    steps=config.replay_inner_steps,
                    lr=config.replay_inner_lr,
                )
                loss.backward()
                accuracies[chain].append(accuracy.cpu())
                total += loss.detach()
                self._replay_weights = {name: weight.detach() for name, weight in weights.items()}
            return total

        self.chains.step(self.network, replay)
        self.optimizer.step()
        seen = self.chains.gather(list(accuracies.values()))
        return torch.stack([accuracy for of_chain in seen for accuracy in of_chain]).mean().item()
