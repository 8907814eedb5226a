from pathlib import Path

import pytest

from bertsquad.machine import identity

ID = "0123456789abcdef0123456789abcdef"


def machine(folder: Path, text: str, place: str = "etc/machine-id") -> Path:
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).write_text(text, "utf-8")
    return folder


def test_a_machine_stays_the_same_and_differs_from_another(tmp_path: Path) -> None:
    one = identity.identity(machine(tmp_path / "one", ID + "\n"))
    again = identity.identity(machine(tmp_path / "again", ID, "var/lib/dbus/machine-id"))
    other = identity.identity(machine(tmp_path / "other", ID[::-1] + "\n"))
    assert one == again != other


def test_the_systems_own_identity_is_not_given_away(tmp_path: Path) -> None:
    assert identity.identity(machine(tmp_path, ID)) not in ID


@pytest.mark.parametrize("text", ["", "uninitialized\n", "ä" * 32])
def test_a_machine_without_an_identity_has_that_of_its_host(tmp_path: Path, text: str) -> None:
    assert identity.identity(machine(tmp_path, text)) == identity.identity(tmp_path / "none")


def test_a_name_of_ones_own_counts_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity.identity(machine(tmp_path, ID))
    monkeypatch.setenv("BERTSQUAD_MACHINE", "epyc-1")
    assert identity.name() == "epyc-1"
    assert identity.identity(tmp_path) == identity.identity(tmp_path / "none") != before
    monkeypatch.setenv("BERTSQUAD_MACHINE", " ")
    assert identity.identity(tmp_path) == before
