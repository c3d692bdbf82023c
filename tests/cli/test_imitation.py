"""What a user is told of a network that imitates a pooled learner."""

from __future__ import annotations

from dataclasses import replace

from hf_free import MetaLearner
from hf_free.cli.imitation import say_imitation
from hf_free.config.sections import LearnerConfig
from hf_free.provenance.run_record import Imitation


def test_costs_and_agreement_are_said_of_a_network_that_imitates_and_nothing_of_others(capsys):
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16))
    say_imitation(learner)
    assert capsys.readouterr().err == ""
    done = Imitation(agreement=0.9, flops=2_000_000, pooled_flops=9_000_000, parameters=500, pooled_parameters=4_000)
    learner.record = replace(learner.record, imitation=done)
    say_imitation(learner)
    said = capsys.readouterr().err
    assert "to 0.90 of 1" in said
    assert "2 MFLOP and 500 weights; all teachers take 9 MFLOP and 4 k weights" in said
    assert "derived" not in said, "it started from nothing"
