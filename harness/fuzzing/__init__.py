"""Campaigns: a subject searched round after round, in units of work that any number of machines may share."""
