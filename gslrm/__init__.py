"""GS-LRM: masked losses, model and AMP training step. Knows nothing of the harness that tests it."""
