"""A subject on a case under a precision: what runs, and what was observed."""
