"""Recorded values that guard a refactor: record, compare, update, drift."""
