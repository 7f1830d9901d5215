"""The long campaign: classes of faults that take turns under mixed load, slice by slice, and one report of all."""
