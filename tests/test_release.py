"""
The part of ``make release-check`` that needs no network: both distributions are built, and an index would take them.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path

import pytest

from tests.support import release
from tests.support.readme import ROOT


def test_both_distributions_pass_the_checks_of_an_index(tmp_path: Path) -> None:
    """
    Wheels and source distributions; then with a file of another distribution, and without one of the four.
    """
    release.build(tmp_path)
    release.check(tmp_path)

    [source] = tmp_path.glob("gcp_oncetask-[0-9]*.tar.gz")
    whole = source.read_bytes()
    add(source, f"gcp_oncetask-{release.version()}/emulator/README.md")
    with pytest.raises(SystemExit, match=r"is to hold gcp_oncetask and its texts; it has .*'emulator'"):
        release.check(tmp_path)
    source.unlink()
    with pytest.raises(SystemExit, match="Two wheels and two source distributions were to be built"):
        release.check(tmp_path)
    source.write_bytes(whole)
    for wheel in tmp_path.glob("*.whl"):
        wheel.write_bytes(b"no wheel")
    with pytest.raises(SystemExit, match="twine check --strict"):
        release.check(tmp_path)


def add(archive: Path, name: str) -> None:
    """
    Add an empty file.
    """
    with tarfile.open(archive) as opened:
        known = [(each, opened.extractfile(each)) for each in opened.getmembers()]
        contents = [(each, b"" if file is None else file.read()) for each, file in known]
    with tarfile.open(archive, "w:gz") as opened:
        for each, text in [*contents, (tarfile.TarInfo(name), b"")]:
            opened.addfile(each, io.BytesIO(text))


def test_version_is_one_and_the_changelog_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Two versions, or a changelog without a section for it, are told.
    """
    sections = release.sections((ROOT / "CHANGELOG.md").read_text())
    assert sections[:2] == ["Unreleased", release.version()]
    for name in ("pyproject.toml", "emulator/pyproject.toml", "CHANGELOG.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.setattr(release, "ROOT", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n")
    with pytest.raises(SystemExit, match=r"has no section \["):
        release.version()
    project = tmp_path / "emulator" / "pyproject.toml"
    project.write_text(project.read_text().replace('version = "', 'version = "9.'))
    with pytest.raises(SystemExit, match="different versions"):
        release.version()


def test_command_that_fails_ends_the_check() -> None:
    """
    With the command and its words.
    """
    with pytest.raises(SystemExit, match=r"(?s)cat /no/such/file\n.*No such file"):
        release.run("cat", "/no/such/file")
