"""A training script run as it is, with faults put into it: what it did is observed from outside, and judged."""
