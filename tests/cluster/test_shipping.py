"""A model's files come to a node whole, and only where they aren't there already."""

import shutil
from pathlib import Path

import pytest

from bertsquad.assets import cache
from bertsquad.assets.fingerprint import fingerprint
from bertsquad.cluster import shipping
from bertsquad.cluster.shipping import Parcel, Receiver
from bertsquad.errors import SuiteError


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parcel:
    """A model of two files, the second in a folder beside the first; the cache is empty."""
    monkeypatch.setenv("BERTSQUAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shipping, "CHUNK", 1000)
    first, second = tmp_path / "here" / "model.onnx", tmp_path / "here" / "weights" / "a.data"
    second.parent.mkdir(parents=True)
    first.write_bytes(bytes(range(256)) * 10)
    second.write_bytes(b"weights" * 300)
    return shipping.parcel([fingerprint(first), fingerprint(second)])


def send(model: Parcel) -> Receiver:
    receiver = Receiver(model)
    for place, offset, block in shipping.chunks(model):
        receiver.take(place, offset, block)
    return receiver


def cached() -> set[str]:
    folder = cache.cache_folder() / cache.SHIPPED
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_files_of_the_same_path_and_content_are_used_where_they_are(model: Parcel) -> None:
    here = shipping.found(model)

    assert here is not None
    assert [one.path for one in here] == [one.path for one in model.files]


def test_what_is_missing_is_sent_and_then_there_for_the_next_time(
    model: Parcel, tmp_path: Path
) -> None:
    receiver = send(model)
    contents = [Path(one.path).read_bytes() for one in model.files]
    shutil.rmtree(tmp_path / "here")
    assert shipping.found(model) is None

    settled = receiver.settle()

    assert [Path(one.path).read_bytes() for one in settled] == contents
    assert Path(settled[1].path) == Path(settled[0].path).parent / "weights" / "a.data"
    assert shipping.found(model) == settled
    assert cached() == {f"{model.key}.model"}


def test_a_file_of_the_same_path_and_other_content_is_not_taken_for_it(model: Parcel) -> None:
    Path(model.files[1].path).write_bytes(b"other")

    assert shipping.found(model) is None


def test_what_was_damaged_on_its_way_is_refused_and_not_kept(model: Parcel) -> None:
    receiver = send(model)
    receiver.take(1, 0, memoryview(b"damage"))

    with pytest.raises(SuiteError, match="another checksum"):
        receiver.settle()
    receiver.close()

    assert cached() == set()


def test_who_is_broken_off_leaves_nothing(model: Parcel) -> None:
    receiver = send(model)
    assert len(cached()) == 1

    receiver.close()

    assert cached() == set()


def test_two_that_receive_the_same_do_not_disturb_each_other(model: Parcel, tmp_path: Path) -> None:
    first = send(model)
    first.settle()
    shutil.rmtree(tmp_path / "here" / "weights")
    second = Receiver(model)
    second.take(0, 0, memoryview(bytes(range(256)) * 10))
    second.take(1, 0, memoryview(b"weights" * 300))

    settled = second.settle()
    second.close()

    assert all(Path(one.path).exists() for one in settled)
    assert cached() == {f"{model.key}.model"}


def test_weights_outside_of_the_models_folder_are_never_written_anywhere(
    model: Parcel, tmp_path: Path
) -> None:
    outside = tmp_path / "outside.data"
    outside.write_bytes(b"weights")
    wanted = shipping.parcel([model.files[0], fingerprint(outside)])
    outside.unlink()

    with pytest.raises(SuiteError, match="outside of the model's folder"):
        Receiver(wanted)


def test_a_full_disk_is_a_sentence(model: Parcel, tmp_path: Path) -> None:
    (cache.cache_folder()).mkdir(parents=True)
    (cache.cache_folder() / cache.SHIPPED).write_text("a file where the folder should be")

    with pytest.raises(SuiteError, match="can't be written"):
        send(model)
