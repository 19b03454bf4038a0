"""All that needs a GPU, as one command that writes everything under one folder: ``harness cuda --out DIR``."""
