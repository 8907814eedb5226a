"""LoadGen: what a run is asked to do, the systems under test, and the logs that it leaves."""
