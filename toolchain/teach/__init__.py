"""Teach a network your own things: takes before a camera become photographs, a run, and answers."""
