"""A submitter's tree for MLPerf Inference, made from finished runs.

- `tree`: the tree, written only if nothing is wrong.
- `evidence`: runs read back from their folders and checked by LoadGen's own logs.
- `hardware`: the hardware of a node of the system, which must be the same for all nodes.
- `system`: the system description, found out or asked for in a TOML file.
"""
