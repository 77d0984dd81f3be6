"""Measurements that can be believed: every arm in a process of its own, one at a time, in turns."""

from toolchain.system import make_callable

make_callable(__name__, "interface:bench")
