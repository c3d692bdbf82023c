"""The command line of hf-free: one program, one file a verb. Nothing heavy is imported before a verb runs."""
