"""The machine: its hardware, what disturbs a run on it, and the versions of what is installed.

- `hardware`: cores, memory and processors.
- `identity`: which machine this is, the same from boot to boot.
- `processor`: instruction sets, clock, and who shares the processor.
- `tuning`: a processor in words, and what to change on a machine so that its figures mean more.
- `gpus`: the NVIDIA GPUs that this process may use, numbered as CUDA numbers them.
- `noise`: what disturbed a run.
- `device_lock`: one timed run at a time on a device.
- `distributions`: what is installed, and which distribution a module is of.
- `environment`: what the processes that the suite starts find in their environment.
- `provenance`: what a result says of the software and the machine.
"""
