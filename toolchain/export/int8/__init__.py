"""int8: calibration, quantisers, quantisation-aware training, and the search for a file that keeps its promises."""
