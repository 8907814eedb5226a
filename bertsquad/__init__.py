"""BERT on SQuAD v1.1 under ONNX Runtime, timed by MLPerf's LoadGen and driven by pytest."""

__version__ = "0.1.0"
