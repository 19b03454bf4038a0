"""Property-based tests and regression guards for any loss or training step, named by its import path."""

__version__ = "0.1.0"
