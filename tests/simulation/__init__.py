"""Engine, log, clock and faults in one process from one seed. `python -m tests.simulation --seed N` repeats one."""
