"""The benchmark: what it measures is data (experiments/), and finished results are kept. See `__main__`."""
