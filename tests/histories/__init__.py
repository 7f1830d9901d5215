"""Recorded histories of this release, which every later one must repeat."""
