"""What answers are worth: metrics with intervals, calibration, rejection."""
