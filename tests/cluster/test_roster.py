"""Nodes that can't take part are named before the clock starts; who lacks the model gets it."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import workers
from strangers import may_hide_folders, stranger

from bertsquad.assets import cache
from bertsquad.cluster.local import LocalCluster
from bertsquad.cluster.membership import Membership
from bertsquad.errors import SuiteError, Unavailable

pytestmark = pytest.mark.cluster

PACKAGE = cache.PACKAGE


@pytest.fixture  # a new one for each test, since nodes that end are listed for seconds
def one_node() -> Iterator[LocalCluster]:
    with LocalCluster(1) as started:
        yield started


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path leaves room for those of sockets."""
    with tempfile.TemporaryDirectory(prefix="s-", dir="/tmp", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes look for code in the driver's working folder, too, where this project would be."""
    monkeypatch.chdir(tmp_path)


def of(cluster: LocalCluster, **others: Any) -> Membership:
    return cluster.membership(**others)


def test_a_node_with_other_code_of_the_suite_is_named(
    one_node: LocalCluster, short: Path, tmp_path: Path
) -> None:
    shutil.copytree(PACKAGE, short / "other" / "bertsquad")
    with (short / "other" / "bertsquad" / "rules.py").open("a") as file:
        file.write("\nOTHER = 1\n")

    with (
        stranger(one_node, short, PYTHONPATH=str(short / "other")) as address,
        pytest.raises(SuiteError, match="runs other code of this suite") as raised,
    ):
        workers.start(tmp_path, cluster=of(one_node, nodes=2))

    assert str(raised.value).startswith(f"node {address} (")


@pytest.mark.slow
def test_a_node_without_the_suite_is_named(
    one_node: LocalCluster, short: Path, tmp_path: Path
) -> None:
    stub = short / "stub" / "bertsquad"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("")

    with (
        stranger(one_node, short, PYTHONPATH=str(short / "stub")) as address,
        pytest.raises(SuiteError) as raised,
    ):
        workers.start(tmp_path, cluster=of(one_node, nodes=2))

    assert f"node {address}" in str(raised.value) and "pip install" in str(raised.value)


def test_a_node_without_the_device_is_named_as_something_that_is_missing(
    one_node: LocalCluster, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match=r"^node 127\.0\.0\.2: cuda: ") as raised:
        workers.start(tmp_path, cluster=of(one_node), device="cuda")

    assert raised.value.subject == "device"


@pytest.mark.slow
def test_more_instances_than_a_node_has_cores_are_refused_with_its_name(
    one_node: LocalCluster, tmp_path: Path
) -> None:
    begun = workers.start(tmp_path, cluster=of(one_node, instances=1000))
    with pytest.raises(SuiteError, match=r"^node 127\.0\.0\.2: --instances 1000 wants 1000 cores"):
        begun.accuracy("offline")
    begun.worker.close()


@pytest.mark.skipif(not may_hide_folders(), reason="needs the right to mount")
def test_a_node_gets_the_model_that_it_has_not_and_keeps_it(
    one_node: LocalCluster, short: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", short / "cache"
    for folder in (here, there):
        folder.mkdir()
    model = tiny.model(here / "tiny.onnx", external=True)
    with stranger(one_node, short, hidden=[here], BERTSQUAD_CACHE=str(there)):
        for _ in range(2):
            begun = workers.start(tmp_path / "run", model, cluster=of(one_node, nodes=2))
            found = begun.accuracy("offline")
            begun.worker.close()

    expected = tiny.answers(begun.features)
    for sample, logits in found.items():
        np.testing.assert_allclose(logits, expected[sample], rtol=1e-4, atol=1e-4)
    shipped = there / "derived" / cache.SHIPPED
    assert [path.suffix for path in shipped.iterdir()] == [".model"]
