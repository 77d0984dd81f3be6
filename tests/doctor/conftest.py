"""The fixtures of the benchmark."""

from bench_support import artifact, in_a_hurry, photographs

__all__ = ["artifact", "in_a_hurry", "photographs"]
