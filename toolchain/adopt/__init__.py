"""Adopt: networks that edgetl did not train become runs, with all that follows from a run."""
