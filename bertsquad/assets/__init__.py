"""Files, downloaded and derived, each verified before it is used.

- `registry`: the files of `data_registry.txt`: where each is, fetched if it isn't here.
- `download`: one file over HTTP, resumed and verified.
- `answer`: what one address answers: its head in time, its body bounded and fast enough.
- `fingerprint`: what a file holds, and whether it still does.
- `cleaning`: what the suite made, removed, and nothing else.
- `cache`: the folders of downloaded and derived files, and the derived files themselves.
"""
