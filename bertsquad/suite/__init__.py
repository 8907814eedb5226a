"""The pytest side: options, cases, the harness that runs them, and pytest-benchmark's figures.

- `options`: what a user may ask for.
- `flags`: the table of the options on the command line, and what is made of them.
- `conflicts`: what can't go together on the command line.
- `parsers`: what an option takes: from its text to its value, or a sentence what is wrong.
- `cases`: which cases there are.
- `header`: what is said before the first case: what is under test, and how long it may take.
- `durations`: how long cases took here, kept for the next estimate.
- `harness`: from a case to its result: files, features, a worker, a run.
- `nodes`: the cluster that cases run on, which may be started for the pytest session.
- `pairs`: whose answers a run's are compared with, question by question.
- `judge`: from what was measured to a verdict.
- `replay`: LoadGen's figures as pytest-benchmark's statistics.
- `recording`: pytest-benchmark's files, with what it doesn't time beside its entries.
- `gate`: `--gate`: results compared with those of the nights before, a miss run again.
- `required`: `--require`: a case that must run fails where it would be skipped.
- `earlier`: which earlier results pytest-benchmark may compare a pytest session with.
- `summary`: the last screen of a pytest session.
- `outcomes`: what the reports of a pytest session carry to its end, an outcome for every case.
- `interruption`: a pytest session that is told to stop ends in order.
"""
