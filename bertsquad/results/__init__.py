"""What a run gave: judged, kept in `result.json`, read back, compared and shown as a table.

- `result`: a case's figures and its verdict, as `result.json` has them.
- `figures`: the figure by which a result is judged, and those beside it.
- `machines`: which results are of one machine.
- `run_folder`: a run's folder: owned by one pytest session, and replaced whole.
- `accuracy`: from an accuracy log to F1, and whether F1 reaches its target.
- `predictions`: what a model answered, in files of its run folder.
- `guessing`: whether a model answers no better than by guessing, and what may be the cause.
- `statistics`: confidence bounds of a mean.
- `validity`: whether a run is valid, and what speaks against it as an MLPerf result.
- `nodes`: what the nodes of a cluster mean for a result: their losses, noise and hardware.
- `compliance`: MLPerf's TEST01.
- `comparison`: whether two runs of a case may be compared.
- `gate`: whether a figure is worse than those of the nights before.
- `baseline`: which earlier results those are, and which figure of a result is compared.
- `document`: a result read from JSON, with every field checked.
- `archive`: results read back from run folders and from JSON files.
- `contrast`: two sets of results side by side, and what else differs between them.
- `resampling`: how far the ratio of a figure in two sets of runs may be off.
- `columns`: the keys of `result.json` as columns, those within others joined by dots.
- `rows`: results as rows for people.
- `formats`: rows as text: aligned, Markdown, CSV, JSON.
- `limits`: what of a `user.conf` ends a run before it has what it needs.
- `advice`: from the cause of a bad result to the option that cures it.
- `words`: a verdict in a word, the same wherever it is shown.
- `names`: the names of cases: taken apart, put in order, and what several have in common.
- `remarks`: what there is to say of finished cases, and what to do about it.
- `table`: the end of a pytest session: remarks, and the table with a row a case.
"""
