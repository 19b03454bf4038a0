"""Listeners of the engine's events: terminal and JSON."""
