"""Machines that answer together, as a cluster of Ray. Needs the extra `ray`.

- `facts`: what a node is, what it did in a run, and how it was lost.
- `membership`: which cluster a worker joins, and what it wants of it.
- `address`: which cluster is meant: what `--cluster` takes.
- `local`: a cluster on this machine, started for a pytest session.
- `guardian`: the process that has its nodes, and lets none outlive the pytest session.
- `connection`: in the worker: joins a cluster, or says in a sentence why it can't be.
- `ledger`: which node has which batches, and which gets the next.
- `dispatch`: gives batches to nodes and takes their answers, each exactly once.
"""
