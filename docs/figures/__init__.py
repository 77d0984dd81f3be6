"""The figures of the documents; see `make_figures.py`."""
