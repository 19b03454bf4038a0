"""Under which conditions a loss leaves its range, or is wrong: measured over a grid of cases."""
