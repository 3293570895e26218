"""Every benchmark at its smallest: all sides run, all results are right, the records are whole. No time is judged."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FIELDS = [
    "stage",
    "work",
    "ours_s",
    "peer",
    "peer_s",
    "ratio",
    "spread",
    "peak_mb",
    "correct",
    "rows",
    "commit",
    "date",
]


@pytest.fixture(scope="module")
def bench(short_folder: Path) -> Iterator[tuple]:
    """(server, size, folder for files); the benchmarks import one another by bare names."""
    sys.path.insert(0, str(BENCHMARKS))
    home = os.environ["MSACAT_HOME"]
    try:
        from sizes import SIZES
        from temporary_server import temporary_server

        with temporary_server(short_folder) as server:
            files = server.folder / "files"
            files.mkdir(mode=0o755)
            yield server, SIZES["tiny"], files
    finally:
        sys.path.remove(str(BENCHMARKS))
        os.environ["MSACAT_HOME"] = home


@pytest.mark.parametrize(
    "stage",
    ["ingest_numeric", "ingest_published", "ingest_xp", "crossmatch", "stream", "train", "enrich", "query"],
)
def test_benchmark_runs_and_is_right(bench, stage):
    records = importlib.import_module(stage).run(*bench)
    assert records
    for record in map(asdict, records):
        assert list(record) == FIELDS
        assert record["correct"] and record["rows"] > 0
        assert record["ours_s"] > 0 and record["peer_s"] > 0
        assert record["ratio"] == pytest.approx(record["peer_s"] / record["ours_s"])
        assert record["spread"][0] <= record["spread"][1]


def test_a_wrong_result_is_no_result(bench):
    from harness import Side, compare

    def wrong(found: int) -> None:
        assert found == 2

    right, liar = Side("right", lambda: 2, wrong), Side("liar", lambda: 3, wrong)
    with pytest.raises(AssertionError, match="liar"):
        compare("made up", "one and one", 1, right, [liar], 1)


def test_every_side_is_judged_for_itself(bench):
    """A side that is asked after another has been judged enough is judged all the same."""
    from harness import Side, compare
    from query import judge

    def expected(star: int) -> list[int]:
        return [star, star + 1]

    right = Side("right", lambda: (1, [1, 2]), judge(expected))
    unordered = Side("unordered", lambda: (1, [2, 1]), judge(expected, ordered=False))
    assert compare("made up", "neighbours", 1, right, [unordered], 20)[0].correct
    for name, wrong in (("other star", [1, 3]), ("other order", [2, 1]), ("a star twice", [1, 1])):
        liar = Side(name, lambda found=wrong: (1, found), judge(expected))
        with pytest.raises(AssertionError, match=name):
            compare("made up", "neighbours", 1, right, [liar], 1)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE plain a SET ruwe = b.ruwe FROM plain b WHERE a.source_id IN (%(i)s, %(j)s) "
        "AND b.source_id IN (%(i)s, %(j)s) AND a.source_id <> b.source_id",
        "UPDATE plain SET pmra = NULL WHERE source_id = %(i)s",
        "UPDATE plain SET dec = dec + 1e-15 * dec WHERE source_id = %(i)s",
        "DELETE FROM plain WHERE source_id = %(i)s",
        "INSERT INTO plain SELECT * FROM plain WHERE source_id = %(i)s",
    ],
    ids=["exchanged", "null", "last bit", "lost", "twice"],
)
def test_rows_that_are_not_what_was_written_are_found(bench, harm):
    """Numbers exchanged between two rows leave every sum as it was."""
    import psycopg
    from ingest_numeric import _create, _psql, _write_csv, check_stars
    from made_up_files import made_up_stars

    server, _, files = bench
    stars, dsn = made_up_stars(50), server.new_store()
    _write_csv(stars, files / "fifty.csv")
    _psql(server, dsn, _create(stars), f"\\copy plain from '{files / 'fifty.csv'}' csv")
    check_stars(dsn, "plain", stars)
    i, j = stars.columns["source_id"][:2].tolist()
    with psycopg.connect(dsn) as conn:
        assert conn.execute(harm, {"i": i, "j": j}).rowcount > 0
    with pytest.raises(AssertionError, match="plain"):
        check_stars(dsn, "plain", stars)


def test_a_cone_that_lacks_a_star_or_holds_another_is_wrong(bench):
    from made_up_files import made_up_stars
    from query import InMemory

    stars = made_up_stars(200_000)
    sky = InMemory(stars)
    i = int(np.argmin(np.abs(stars.columns["dec"] - 10.25)))  # in the dense strip
    ra, dec = float(stars.columns["ra"][i]), float(stars.columns["dec"][i])
    inside = [star for star, arcmin in sky._around(ra, dec).items() if arcmin < 1]
    sky.check_cone(ra, dec, inside)
    for found in (inside[1:], [*inside, int(stars.columns["source_id"][0])], [*inside, inside[0]]):
        with pytest.raises(AssertionError, match="within 1 arcmin"):
            sky.check_cone(ra, dec, found)


def test_records_replace_all_that_was_said_of_their_stage(bench, tmp_path):
    from harness import Side, compare, write_records

    side = Side("side", lambda: None, lambda _: None)
    path = tmp_path / "speed.json"
    other = Side("other", lambda: None, lambda _: None)
    write_records(compare("another", "nothing", 7, side, [other], 1), path)
    write_records(compare("made up", "nothing", 1, side, [other], 1), path)
    write_records(compare("made up", "nothing", 2, side, [other], 1), path)
    assert [record["rows"] for record in json.loads(path.read_text())] == [7, 2]


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_small_sizes_do_not_touch_the_record_of_full_ones(bench, size):
    import run_benchmarks

    with pytest.raises(SystemExit) as ended:
        run_benchmarks.main(["--size", size, "--stage", "query"])
    assert ended.value.code == 2


def test_a_measured_process_does_not_load_torch():
    """What ingest and crossmatch use is theirs, not what the benchmark needs elsewhere."""
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); import run_benchmarks, ingest_numeric, ingest_published, "
        "ingest_xp, crossmatch; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_growth_and_profile_run(bench):
    import growth
    import profile_stages
    from limits import limits

    server, _, files = bench
    points = [growth.measure(server, "ingest_numeric", n, files) for n in (500, 1000)]
    assert growth.summary(points)["stages"]["ingest_numeric"].keys() == {"exponent", "last_exponent"}
    spent = profile_stages.profile(server, "crossmatch", 1000, files)
    able = limits(files, mb=8)
    assert spent.seconds > 0 and spent.top and all(rate > 0 for rate in able.values())
    for stage in profile_stages.ROWS:
        words, seconds = profile_stages.ideal(stage, 1000, spent, able)
        assert words and seconds >= 0


def test_what_is_said_of_earlier_records_is_not_said_of_new_ones(bench):
    from earlier_forms import SINCE, earlier_forms, earlier_growth, earlier_profile

    old = {"stage": "enrich", "date": "2026-11-29T22:00Z"}
    assert len(list(earlier_forms([old, {"stage": "query", "date": SINCE}]))) == 1
    assert list(earlier_forms([old | {"date": SINCE}])) == []
    assert earlier_profile(old) and not earlier_profile({"date": SINCE})
    assert earlier_growth([old | {"stage": "train"}]) and not earlier_growth([old])


def test_small_ratios_have_digits(bench):
    from speed_page import _ratio

    assert [_ratio(x, 2) for x in (0.001614, 0.0874, 0.104, 9.07)] == ["0.0016", "0.087", "0.10", "9.07"]


def test_a_training_is_not_accounted_for_beyond_its_steps(bench):
    import profile_stages

    server, _, files = bench
    spent = profile_stages.profile(server, "train", 512, files)
    assert spent.seconds > 0
    assert (spent.client_cpu_s, spent.server_cpu_s, spent.written_mb, spent.top) == (None, None, None, [])


def test_pages_are_what_the_results_say(bench):
    """Nobody wrote on them by hand."""
    import scale_page
    import speed_page

    results = {path.stem: json.loads(path.read_text()) for path in (BENCHMARKS / "results").glob("*.json")}
    for record in results["speed"]:
        assert list(record) == FIELDS
    docs = BENCHMARKS.parent / "docs"
    pages = {"speed": ("speed", "growth", "profile", "equal_time"), "scale": ("store", "growth", "speed")}
    for module, name in ((speed_page, "speed"), (scale_page, "scale")):
        made = module.page(*(results[key] for key in pages[name]))
        assert (docs / f"{name}.md").read_text() == made, (
            f"python benchmarks/{name}_page.py makes docs/{name}.md anew"
        )
