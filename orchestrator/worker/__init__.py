"""Carrying steps out: one executor, two transports (a socket pair to step processes, task topics to remote workers)."""
