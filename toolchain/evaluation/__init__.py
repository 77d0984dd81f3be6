"""What a network is worth: metrics with intervals, agreement, calibration, rejection, overlap with training.

No other package computes these (a test holds that). `metrics`, `statistics` and `overlap` need NumPy alone and run
on a device; `calibration` chooses temperature and threshold with SciPy, which only training installs.
"""
