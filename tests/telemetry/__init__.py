"""Traces, metrics and their export."""
