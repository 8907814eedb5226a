"""What a wheel installs works where there is no checkout."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from made import performance, run_folder

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "bertsquad"


class Installed:
    """An environment with the wheel in it, and a folder to call it from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(self, *arguments: str) -> str:
        here = {"BERTSQUAD_CACHE": str(self.folder / "cache")}
        hidden = {"PYTHONPATH", "BERTSQUAD_DATA", "BERTSQUAD_CACHE"}
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,
            env={key: value for key, value in os.environ.items() if key not in hidden} | here,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel of this tree, in an environment that has the other packages of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv")
    made = Installed(folder)
    command = ("-m", "pip", "--python", str(made.python), "--disable-pip-version-check")
    subprocess.run(
        [sys.executable, *command, "install", "--no-deps", "--no-index", str(wheel)], check=True
    )
    # Python takes no .pth file of a folder that a .pth file names, so a checkout that is installed
    # here stays unseen.
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    place = Path(made.run("-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (place / "others.pth").write_text("\n".join(others), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def package(installed: Installed) -> Path:
    """Where the package is imported from: the wheel's, or the other tests would show nothing."""
    shown = installed.run(
        "-c", "import bertsquad, json, sys; print(json.dumps([bertsquad.__file__, sys.path]))"
    )
    file, path = json.loads(shown)
    assert str(ROOT) not in path
    assert Path(file).is_relative_to(installed.folder / "venv")
    return Path(file).parent


def test_every_file_of_the_package_is_in_it(package: Path) -> None:
    expected = {"data_registry.txt": (ROOT / "data_registry.txt").read_bytes()} | {
        path.relative_to(PACKAGE).as_posix(): path.read_bytes()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }
    assert {"results/result.py", "pocket/vocab.txt", "report/page.html"} <= expected.keys()
    for name, content in expected.items():
        assert (package / name).is_file(), f"the wheel has no {name}"
        assert (package / name).read_bytes() == content


@pytest.mark.usefixtures("package")
def test_the_doctor_finds_the_bundled_files_and_a_worker(installed: Installed) -> None:
    lines = installed.run("-m", "bertsquad", "doctor").splitlines()
    bundled = [line for line in lines if line.startswith("  pocket/")]
    assert len(bundled) == 6
    assert all(": ok (" in line for line in bundled)
    assert "  cpu: ok (fp32, int8)" in lines


@pytest.mark.usefixtures("package")
def test_a_report_is_made(installed: Installed) -> None:
    run_folder(installed.folder / "results", performance("offline"))
    assert "made report.html" in installed.run(
        "-m", "bertsquad", "report", "results", "-o", "report.html"
    )
    assert (installed.folder / "report.html").stat().st_size > 10_000
