"""The machine: its hardware, what disturbs a run on it, and the versions of what is installed.

- `hardware`: cores, memory, processors and GPUs.
- `noise`: what disturbed a run.
- `provenance`: what a result says of the software and the machine.
"""
