"""LoadGen: what a run is asked to do, the systems under test, and the logs that it leaves.

- `request`: what a run is asked to do, and its targets.
- `user_conf`: what LoadGen reads in a `user.conf` for BERT.
- `reading`: a `user.conf` as LoadGen reads it, asked line by line.
- `work`: the settings that change the work of a run, and how they usually are.
- `probe`: a short measurement that finds the targets nobody gave.
- `run`: LoadGen's settings for a run, and the run itself.
- `clock`: the clock by which LoadGen times a run, compared with one that never steps.
- `sut`: the systems under test: LoadGen's queries come in, the answers go out.
- `batching`: which samples go through the model together.
- `timeline`: when every query was answered and every batch calculated.
- `logs`: what LoadGen's logs say that a run did.
"""
