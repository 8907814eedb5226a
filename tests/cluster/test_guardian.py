"""How the cores are divided."""

import pytest

from bertsquad.cluster.guardian import divide


@pytest.mark.parametrize(
    ("cores", "nodes", "shares"),
    [
        (4, 1, [(0, 1, 2, 3)]),
        (4, 2, [(0, 1), (2, 3)]),
        (5, 3, [(0,), (1, 2), (3, 4)]),
        (2, 3, [(0,), (1,), (0,)]),
        (1, 2, [(0,), (0,)]),
    ],
)
def test_nodes_share_cores_only_where_there_are_too_few(
    cores: int, nodes: int, shares: list[tuple[int, ...]]
) -> None:
    assert divide(range(cores), nodes) == shares
