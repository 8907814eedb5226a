"""One real cluster of two nodes for all fast tests."""

from collections.abc import Iterator

import pytest

from bertsquad.cluster.local import LocalCluster


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[LocalCluster]:
    with LocalCluster(2) as started:
        yield started
