"""The process that holds the model and runs LoadGen, and how the pytest process talks to it.

- `handle`: in the pytest process: starts the worker, gives it cases, ends it.
- `protocol`: what the two processes say to each other.
- `place`: where batches are calculated: on this machine, or by the nodes of a cluster.
- `__main__`: in the worker: reads the messages and answers them.
- `libraries`: in the worker: the libraries that it alone loads, or a sentence what to do.
- `reporter`: which step goes on and how far it is, told while somebody waits.
- `runner`: one model over one data set, running case after case.
"""
