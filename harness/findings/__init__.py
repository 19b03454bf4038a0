"""Failing cases as files: written before a case is run, and replayed."""
