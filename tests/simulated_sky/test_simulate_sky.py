"""simulate(): reproducible, all or nothing, never overwriting."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from msacat.catalog.errors import UsageError
from msacat.catalog.simulated_sky.parameters import FILE, load_parameters
from msacat.catalog.simulated_sky.simulate_sky import DATASETS, simulate


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("clean", [True, False])
def test_same_request_same_bytes(tmp_path: Path, clean: bool) -> None:
    simulate(tmp_path / "a", 600, 3, clean)
    simulate(tmp_path / "b", 600, 3, clean)
    simulate(tmp_path / "c", 600, 4, clean)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert digests(tmp_path / "a")["truth.parquet"] != digests(tmp_path / "c")["truth.parquet"]


def test_clean_and_dirty_differ_and_every_dataset_is_there(clean_sky, dirty_sky) -> None:
    for sky in (clean_sky, dirty_sky):
        assert {p.name for p in sky.made.folder.iterdir()} == {*DATASETS, "truth.parquet", "README.md"}
        assert all(count > 0 for count in sky.made.rows.values()), sky.made.rows
    assert set(clean_sky.array("class")) == {"star"}
    assert set(dirty_sky.array("class")) == {"star", "m_dwarf", "white_dwarf", "quasar", "galaxy"}


def test_readme_quotes_the_parameters_in_use(clean_sky) -> None:
    sha = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert clean_sky.made.parameters_sha256 == load_parameters().sha256 == sha
    readme = (clean_sky.made.folder / "README.md").read_text()
    assert sha in readme and "clean" in readme and "seed 5" in readme


def test_a_folder_with_something_in_it_is_refused_untouched(tmp_path: Path) -> None:
    out = tmp_path / "sky"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(UsageError) as caught:
        simulate(out, 100, 0, True)
    assert caught.value.exit_code == 2 and str(out) in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["sky"]
    assert (out / "mine.txt").read_text() == "keep"


def test_the_folder_one_stands_in(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    simulate(".", 5, 0, True)
    assert (tmp_path / "here" / "truth.parquet").exists() and [p.name for p in tmp_path.iterdir()] == ["here"]


def test_an_existing_file_is_refused_and_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        simulate(tmp_path / "file", 100, 0, True)
    (tmp_path / "empty").mkdir()
    assert simulate(tmp_path / "empty", 100, 0, True).rows["gaia_source"] == 100
    assert (tmp_path / "empty" / "truth.parquet").exists()


@pytest.mark.parametrize(("stars", "seed"), [(0, 0), (-5, 0), (10**9, 0), (100, -1), (100, 2**32)])
def test_numbers_that_make_no_sky(tmp_path: Path, stars: int, seed: int) -> None:
    with pytest.raises(UsageError) as caught:
        simulate(tmp_path / "sky", stars, seed)
    assert caught.value.expected is not None
    assert list(tmp_path.iterdir()) == []


def test_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def stop(words: str, fraction: float) -> None:
        if fraction > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "sky", 800, 0, False, stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_runs_from_nothing_to_all(tmp_path: Path) -> None:
    seen: list[float] = []
    simulate(tmp_path / "sky", 400, 0, True, lambda words, fraction: seen.append(fraction))
    assert seen[0] == 0 and seen[-1] == 1 and seen == sorted(seen) and len(seen) > 2


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError) as caught:
        simulate(tmp_path / "file" / "sky", 100, 0)
    assert caught.value.next_step


@pytest.mark.parametrize("clean", [True, False])
def test_one_star_is_a_sky(tmp_path: Path, clean: bool) -> None:
    assert simulate(tmp_path / "sky", 1, 1, clean).rows["truth"] == 1
