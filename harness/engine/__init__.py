"""Runs properties over cases and emits events; knows no listener."""
