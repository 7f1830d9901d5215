"""Readers of the events topics: what the log says, recomputed beside the engine."""
