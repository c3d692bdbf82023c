"""The command line of hf-free: one program, one file per verb. Nothing heavy is imported before a verb runs."""
