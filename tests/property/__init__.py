"""Random programs on the core: histories that nobody wrote by hand, against models that share no code with it."""
