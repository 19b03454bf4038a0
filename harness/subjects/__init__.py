"""The door: a subject is named by its import path, loaded, and adapted to what the harness calls."""
