import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bertsquad import arrays


@dataclass(frozen=True)
class Pair:
    ids: NDArray[np.int64]
    marks: NDArray[np.bool_]


PAIR = Pair(np.arange(3), np.array([True, False]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pair.npz"


def test_what_was_saved_is_read(path: Path) -> None:
    arrays.save(PAIR, path)
    found = arrays.load(Pair, path)
    assert (found.ids.tolist(), found.marks.tolist()) == ([0, 1, 2], [True, False])


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (np.arange(3, dtype=np.int32), "ids is int32"),
        (np.arange(3.0), "ids is float64"),
        (np.array(["a"]), "ids is <U1"),
        (np.zeros((2, 2), np.int64), r"ids is int64 \(2, 2\)"),
        (np.int64(3), r"ids is int64 \(\)"),
        (np.array([{}], object), "allow_pickle"),
    ],
    ids=["another width", "floats", "text", "two axes", "no axis", "objects"],
)
def test_an_array_of_another_type_or_shape_is_named(path: Path, ids: Any, said: str) -> None:
    np.savez(path, ids=ids, marks=PAIR.marks)
    with pytest.raises(arrays.Damaged, match=said):
        arrays.load(Pair, path)


def test_a_file_that_lacks_an_array_is_told_from_a_damaged_one(path: Path) -> None:
    np.savez(path, ids=PAIR.ids)
    with pytest.raises(arrays.Lacking):
        arrays.load(Pair, path)


def test_a_file_that_is_small_only_until_it_is_unpacked_is_not_unpacked(path: Path) -> None:
    np.savez_compressed(path, ids=np.zeros(1_000_000, np.int64), marks=PAIR.marks)
    assert path.stat().st_size < 20_000
    with pytest.raises(arrays.Damaged, match="compressed"):
        arrays.load(Pair, path)


@pytest.mark.parametrize("shape", [(10**15,), (10**400,), (-1,), ("a",)], ids=str)
def test_an_array_that_claims_an_absurd_shape_is_damaged(path: Path, shape: Any) -> None:
    member = io.BytesIO()
    header = {"descr": "<i8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("ids", "marks"):
            archive.writestr(f"{name}.npy", member.getvalue())
    with pytest.raises(arrays.Damaged):
        arrays.load(Pair, path)


@pytest.mark.parametrize(("place", "bits"), [(8, 0x01), (10, 0x41)], ids=["encrypted", "method"])
def test_an_archive_that_no_one_can_open_is_damaged(path: Path, place: int, bits: int) -> None:
    arrays.save(PAIR, path)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PK\x01\x02") + place] ^= bits
    path.write_bytes(whole)
    with pytest.raises(arrays.Damaged):
        arrays.load(Pair, path)


def test_a_file_that_can_not_be_opened_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        arrays.load(Pair, tmp_path / "nowhere.npz")
    with pytest.raises(IsADirectoryError):
        arrays.load(Pair, tmp_path)
