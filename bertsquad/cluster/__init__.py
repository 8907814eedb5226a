"""Machines that answer together, as a cluster of Ray. Needs the extra `ray`.

- `node`: what lives on a node: the model's engine, which answers batches.
- `instances`: an engine's instances on a node, each for one call at a time.
- `actors`: Ray's actors, in which nodes live, and the errors that Ray gives.
- `agreement`: whether nodes and their driver are alike enough.
- `shipping`: the model's files, sent to nodes that haven't got them.
- `roster`: which nodes are there now, each compared with the driver; as one backend.
- `fleet`: the nodes as one backend: samples go out, logits come back.
- `wire`: what goes to a node and comes back, as bytes.
- `watchdog`: when a node that says nothing counts as lost.
- `watching`: nodes, and the head of their cluster, watched while a run goes on.
- `observing`: what disturbs the nodes' machines, and the right to their devices.
- `facts`: what a node is, what it did in a run, and how it was lost.
- `membership`: which cluster a worker joins, and what it wants of it.
- `address`: which cluster is meant: what `--cluster` takes.
- `local`: a cluster on this machine, started for a pytest session.
- `guardian`: the process that has its nodes, and lets none outlive the pytest session.
- `connection`: in the worker: joins a cluster, or says in a sentence why it can't be.
- `ledger`: which node has which batches, and which gets the next.
- `dispatch`: gives batches to nodes and takes their answers, each exactly once.
"""
