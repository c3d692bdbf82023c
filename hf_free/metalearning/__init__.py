"""How a learner learns from tasks and memory: distillation, BELL, adding teachers."""
