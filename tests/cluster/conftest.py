"""One real cluster of two nodes for all fast tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from left_over import Place

from bertsquad.cluster.local import LocalCluster


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[LocalCluster]:
    with LocalCluster(2) as started:
        yield started


@pytest.fixture
def place() -> Iterator[Place]:
    """A place whose path is short enough for Ray's sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as folder:
        made = Place(Path(folder))
        made.temporary.mkdir()
        made.home.mkdir()
        yield made
