"""The machine: its hardware, what disturbs a run on it, and the versions of what is installed."""
