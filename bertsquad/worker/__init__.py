"""The process that holds the model and runs LoadGen, and how pytest's process talks to it."""
