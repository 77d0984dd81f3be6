"""Measurements that can be believed: every arm in a process of its own, one at a time, in turns."""
