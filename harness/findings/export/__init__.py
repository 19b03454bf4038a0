"""A failing case as one Python file that needs torch and the subject alone."""
