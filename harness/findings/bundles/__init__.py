"""Bundles, which ``harness watch`` leaves: the calls of the last windows, and the inputs of a loss that went wrong."""
