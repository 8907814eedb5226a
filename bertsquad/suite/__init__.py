"""The pytest side: options, cases, the harness that runs them, and pytest-benchmark's figures."""
