"""What a user is told of a network that imitates a pooled learner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_free.cli.console import say

if TYPE_CHECKING:
    from hf_free.learner.meta_learner import MetaLearner


def say_imitation(made: MetaLearner) -> None:
    """Say what it started from, how well it agrees, and what it costs; nothing of any other learner."""
    from hf_free.evaluation.flops import operations
    from hf_free.runtime.text import count_text

    done = made.record.imitation
    if done is None:
        return
    if done.started_from is not None:
        begun = made.record.teachers[done.started_from].reference
        say(f"It started from the weights of {begun}, and is derived from them: that teacher's license applies.")
        if done.as_it_was:
            say("Its weights stay as they were: with what it learned it agreed less with the pooled learner.")
    say(f"On new drawn pictures its embedding agrees with the pooled learner's to {done.agreement or 0:.2f} of 1.")
    before, after = (
        f"{operations(flops or 0)} and {count_text(parameters or 0)} weights"
        for flops, parameters in ((done.pooled_flops, done.pooled_parameters), (done.flops, done.parameters))
    )
    say(f"Per view of a picture: {after}; all teachers take {before}.")
