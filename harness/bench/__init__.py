"""How fast a loss is beside its peers, and how fast the harness itself is."""
