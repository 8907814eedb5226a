"""Machines that answer together, as a cluster of Ray. Needs the extra `ray`.

- `facts`: what a node is, what it did in a run, and how it was lost.
- `membership`: which cluster a worker joins, and what it wants of it.
"""
