"""The ``harness`` command: thin."""
