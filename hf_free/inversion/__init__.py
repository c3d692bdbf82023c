"""Recovering tasks from teachers: FIVE, its losses, and pictures that are drawn."""
