"""The commands of `python -m bertsquad`, a module each.

Each has `add`, which adds its parser to those of the command line, and sets what is called for it.

- `fetch`: download and verify files.
- `doctor`: what this machine can run.
- `clean`: remove derived files.
- `submission`: make a submitter's tree for MLPerf Inference.
- `report`: make one HTML page of finished runs.
- `show`: finished runs, a row a run, in a format for people or programs.
- `get`: one figure of a case's newest run.
- `compare`: what one set of finished runs is to another.
"""
