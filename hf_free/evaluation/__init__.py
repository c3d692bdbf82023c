"""What is measured: accuracy, cost, and how well teachers can be inverted."""
