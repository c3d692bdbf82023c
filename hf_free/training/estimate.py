"""What a training run costs: operations of FIVE, of the teachers' answers and of BELL, and memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from hf_free.config.recipes import Defects
from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.evaluation.flops import Cost, count
from hf_free.inversion.generator import MetaGenerator
from hf_free.learner.embedder import Embedder
from hf_free.learner.embedding import Embedding
from hf_free.memory.logit_table import row_bytes
from hf_free.metalearning.continual import PreviousLearner, lay_out
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.teachers.pool import TeacherPool
from hf_free.training.workload import Workload

SECOND_ORDER = 3
"""Cost of a step that is differentiated through, in first-order steps: backward costs twice what it goes through."""


@dataclass(frozen=True)
class CostEstimate:
    """Operations, counted as `hf_free.evaluation.flops` does (matrix products, convolutions; two a multiply-add), and
    bytes."""

    five_step: int
    """One outer step of FIVE: all inner steps of all its teachers."""
    five_images: int
    """Pictures that such a step recovers, on average."""
    one_answer: int
    """Asking teachers about one picture, as many as are asked, and a learner that is continued."""
    answers_a_step: int
    """Asking them about all pictures of an outer step; 0 where the learner asks nobody else (align)."""
    bell_update: int
    """One update of the learner: a batch of answers; or one replay (align, its pass over new tasks left out)."""
    bell_updates: int
    """Updates per outer step, at least."""
    teachers_bytes: int
    """Teachers' weights held at once at most."""
    memory_bytes: int
    """The memory of pictures, full. Activations are not estimated."""
    learner_view: int = 0
    """The finished learner's answer about one view of a picture; 0, as the next three, in what was saved earlier."""
    learner_bytes: int = 0
    """Its weights in 32 bits."""
    pooled_view: int = 0
    """The answer of a pooled learner of the same teachers, which asks all of them; 0 where one is a black box."""
    pooled_bytes: int = 0
    """Weights of all teachers."""

    def total(self, steps: int, recover_share: float) -> int:
        """A run of that many outer steps, the first `recover_share` of which recover tasks."""
        recovering = round(steps * recover_share)
        return recovering * (self.five_step + self.answers_a_step) + steps * self.bell_updates * self.bell_update


def estimate(
    work: Workload,
    pool: TeacherPool,
    elder: PreviousLearner | None = None,
    *,
    defects: Defects | None = None,
    paints: bool = True,
) -> CostEstimate:
    """Count a run's operations and memory; of teachers that are built alike, one is counted.

    Args:
        work: What the run does, with the settings that `PreviousLearner.load` gives where a learner is continued.
        pool: The teachers.
        elder: The learner that is continued, if any.
        defects: Defects of the released code that are reproduced; None for none.
        paints: Whether a generator makes the pictures; else their pixels are moved themselves.
    """
    five, memory, size, channels = work.five, work.memory, work.learner.image_size, work.learner.channels
    teachers = _teacher_costs(pool)
    asks_all = work.distills
    sizes = lay_out(pool.records, elder).sizes if asks_all else []
    outputs = sum(sizes) or work.bell.n_way
    network = _learner(work.learner, outputs)
    learner, student = _cost(network), _student_cost(work.learner, outputs, defects or Defects())
    slots = five.max_classes if five.conditional else 0
    painter = MetaGenerator(size, channels, five.latent_dim, five.width, slots)
    generator = count(painter, (five.latent_dim,)) if paints else Cost(0, 0)
    teacher_looks = 2 if paints and five.canvas and five.match_canvas else 1  # at the canvases, at finished pictures

    recovered = [five.images_per_class * min(record.num_classes, five.max_classes) for record in pool.records]
    donors = [teacher for record, teacher in zip(pool.records, teachers, strict=True) if record.has_batchnorm]
    adaptations = 0.0
    for images, record, teacher in zip(recovered, pool.records, teachers, strict=True):
        inner_step = generator + teacher
        if five.adversarial and record.num_classes <= five.max_classes:
            inner_step += student
        step_flops: float = inner_step.total_flops
        if five.donor_batchnorm and donors and not record.has_batchnorm:  # any of them is drawn, each step anew
            step_flops += sum(donor.total_flops for donor in donors) / len(donors)
        looks = generator.forward_flops + teacher.forward_flops * teacher_looks
        adaptations += images * (five.inner_steps * step_flops + looks)
    share = min(five.teachers_per_step, len(pool)) / len(pool)

    five_images = round(sum(recovered) * share)
    one_answer = round(work.share_asked(len(pool)) * sum(teacher.forward_flops for teacher in teachers))
    if elder is not None and asks_all:
        one_answer += _cost(_learner(work.learner, sum(block.size for block in elder.blocks))).forward_flops
    asked = five_images + memory.drawn_per_step if asks_all else 0
    picture_bytes = (
        channels * size * size + row_bytes(sizes, memory.teachers_per_image) + 8
    )  # uint8, number of the class
    all_weights = sum(record.weight_bytes for record in pool.records)
    return CostEstimate(
        five_step=round(adaptations * share),
        five_images=five_images,
        one_answer=one_answer,
        answers_a_step=asked * one_answer,
        bell_update=_bell_update(work.bell, learner),
        bell_updates=work.bell.updates_per_step if asks_all else work.replays_per_step,
        teachers_bytes=min(all_weights, pool.budget),
        memory_bytes=(memory.max_images + memory.held_out_images) * picture_bytes,
        learner_view=learner.forward_flops,
        learner_bytes=4 * sum(weight.numel() for weight in network.parameters()),
        pooled_view=0 if pool.black_boxes else sum(teacher.forward_flops for teacher in teachers),
        pooled_bytes=all_weights,
    )


def _teacher_costs(pool: TeacherPool) -> list[Cost]:
    """Cost of one picture for each teacher: forward, and backward to the picture."""
    known: dict[tuple[object, ...], Cost] = {}
    costs = []
    for index, record in enumerate(pool.records):
        kind = kind_of(record)
        if kind not in known:
            known[kind] = count(pool[index])
        costs.append(known[kind])
    return costs


def kind_of(record: TeacherRecord) -> tuple[object, ...]:
    """What teachers that are built alike, and so cost alike, have in common."""
    return record.architecture, record.input_size, record.parameters, tuple(record.normalization.items())


def _learner(config: LearnerConfig, outputs: int) -> Embedder:
    """The backbone, and a linear layer onto the answers or the classes of an episode."""
    learner = Embedder(replace(config, init_from=None))
    learner.embedding = Embedding(nn.Linear(learner.backbone_dim, outputs))
    return learner


def _cost(learner: Embedder, *, input_gradient_only: bool = False) -> Cost:
    """One view of a picture."""
    size = (learner.config.channels, learner.config.image_size, learner.config.image_size)
    return count(learner, size, input_gradient_only=input_gradient_only)


def _student_cost(config: LearnerConfig, outputs: int, defects: Defects) -> Cost:
    """The learner within the inversion loss: its weights want no gradients there, the pictures do."""
    cost = _cost(_learner(config, outputs), input_gradient_only=True)
    if defects.divergence_of_probabilities:  # as released: no gradient through the student at all
        return Cost(cost.forward_flops, 0)
    return cost


def _bell_update(bell: BellConfig, learner: Cost) -> int:
    if bell.distills:
        return bell.batch_size * learner.total_flops
    support, query = bell.n_way * bell.k_shot, bell.n_way * bell.n_query
    return bell.replay_tasks * (bell.replay_inner_steps * SECOND_ORDER * support + query) * learner.total_flops
