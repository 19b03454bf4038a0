"""Two implementations, or two revisions of one, side by side on the same cases."""
