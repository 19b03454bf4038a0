"""A whole training run watched on its own hardware: what breaks a rule is told once and kept as a bundle."""
