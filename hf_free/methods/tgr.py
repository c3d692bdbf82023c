"""TGR (ICML 2024): groups of unlike teachers, and their gradients' dispersion as a penalty.

Paper: Wei, Hu, Shen, Wang, Li, Yuan, Tao, "Task Groupings Regularization: Data-Free Meta-Learning with Heterogeneous
Pre-trained Models", ICML 2024, https://arxiv.org/abs/2405.16560. Code: WalkerWorldPeace/TGR at commit 77f6239,
Apache-2.0.

- Inversion: `hf_free.inversion.per_teacher_generator`, 200 steps for each teacher.
- Groups: `hf_free.metalearning.task_groups`, whose probe is made from the recovered pictures.
- Learning: `hf_free.metalearning.regularize`, its step in `hf_free.metalearning.dispersion`; then replay by MAML.

Constants are in `hf_free.config.recipes`, each with its source. Departures from the code and their reasons are below.
"""

from __future__ import annotations

from hf_free.methods.base import Method
from hf_free.methods.free import make_bell
from hf_free.methods.inversions import make_generator

TGR = Method(
    name="tgr",
    title="TGR: teachers in groups of unlike ones, whose gradients' dispersion is a penalty",
    paper="Yongxian Wei, Zixuan Hu, Li Shen, Zhenyi Wang, Yu Li, Chun Yuan, Dacheng Tao: "
    "Task Groupings Regularization: Data-Free Meta-Learning with Heterogeneous Pre-trained Models, ICML 2024",
    url="https://arxiv.org/abs/2405.16560",
    needs="gradients; its BatchNorm statistics are used where it has some",
    inverter=make_generator,
    objective=make_bell,
    departures=(
        "the probe that teachers are embedded with is a small network trained on recovered pictures, in evaluation "
        "mode; the code's is a ResNet-34 trained on ImageNet, which is not data-free, left in training mode, so that "
        "its matrix depends on the teachers' order",
        "5 batches of 60 pictures embed a teacher, not of 600, and two embeddings are compared at any scale; the code "
        "adds 1e-6 to the sum of two squared gradients, which outweighs small ones, and rounds to four digits",
        "one set of pictures of each teacher is recovered before groups are formed, where the code recovers 20: the "
        "time of a run is better spent in it; they are replayed like later ones, and the code's are not",
        "the last pictures of an inversion are kept, not the best of its steps",
        "BatchNorm statistics are compared in units of the stored deviations, as in all methods but purer",
        "kl_div gets logarithms; defects=[divergence_of_probabilities] gives it probabilities, as the code does",
        "a teacher is asked about each picture once, as it is; the code asks it about the shifted and flipped one "
        "that the learner sees",
        "the teachers of a step are drawn without replacement",
        "the head maml starts from the nearest class means and takes five steps, where the code starts from the "
        "trained head and takes ten",
    ),
)
