"""The process: device, memory, files, interrupts; knows no teacher and no learner."""
