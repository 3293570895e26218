"""The tables of one enrichment run: their columns, with a sentence, unit and UCD each (meta.modelled where modelled)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from psycopg import Connection, sql

from msacat.catalog.store.column_comments import Described, comment_on_column

KINDS = ("magnitudes", "xp_coefficients", "embeddings", "metallicities")
#: beside the kinds: the table of the stars a run was asked for, until it is verified
REQUESTED = "requested"
EMBEDDING_WIDTH = 64
#: condition on msacat.runs: the views show the run; one that went stale stays until a newer one takes its place
SHOWN = "published IS NOT NULL AND state IN ('published', 'stale')"


@dataclass(frozen=True)
class OutputColumn:
    """One column of a run's table."""

    name: str
    type: str
    described: Described


def _of_run(name: str, what: str) -> OutputColumn:
    described = Described(f"Run that gave {what}, msacat.runs.", "", "meta.id;meta.modelled")
    return OutputColumn(name, "bigint", described)


#: by kind: the column of enriched.stars that names the run of what it shows, since a newer run may lack a kind
RUN_OF = {
    "magnitudes": _of_run("run_id", "the imputed magnitudes and the bits beside them"),
    "xp_coefficients": _of_run("xp_run_id", "the predicted coefficients"),
    "embeddings": _of_run("embedding_run_id", "the embedding"),
    "metallicities": _of_run("metallicity_run_id", "fe_h, teff and logg"),
}


@dataclass(frozen=True)
class BandInfo:
    """What the outputs need to know of a band."""

    name: str
    bit: int
    ucd: str
    survey_title: str
    system: str


def bands_of(conn: Connection, names: Collection[str] | None = None) -> list[BandInfo]:
    """The store's bands, or those of these `names`, in the order of their bits."""
    rows = conn.execute(
        "SELECT b.band, b.bit, s.spec, s.title, b.system, b.mag_column FROM msacat.bands b "
        "JOIN msacat.surveys s ON s.name = b.survey ORDER BY b.bit"
    ).fetchall()
    infos = []
    for band, bit, spec, title, system, mag_column in rows:
        if names is not None and band not in names:
            continue
        ucd = next(c["ucd"] for c in spec["columns"] if c["name"] == mag_column)
        infos.append(BandInfo(band, bit, ucd, title, system))
    return infos


def columns_of(kind: str, bands: list[BandInfo]) -> list[OutputColumn]:
    """Columns of enriched.r<run_id>_<kind>, source_id and run_id first."""
    head = [
        OutputColumn("source_id", "bigint", Described("Gaia source identifier.", "", "meta.id;meta.main")),
        OutputColumn(
            "run_id", "bigint", Described("Run that made the row, msacat.runs.", "", "meta.id;meta.modelled")
        ),
    ]
    return (
        head
        + {
            "magnitudes": _magnitudes(bands),
            "xp_coefficients": _XP,
            "embeddings": _EMBEDDINGS,
            "metallicities": _METALLICITIES,
        }[kind]
    )


def create_run_tables(
    conn: Connection, run_id: int, kinds: list[str], band_names: Collection[str] | None = None
) -> None:
    """The run's empty tables, without keys: verification builds them, which also proves uniqueness.

    `band_names` are the run's bands, all of the store's if left out.
    """
    bands = bands_of(conn, band_names)
    for kind in kinds:
        table, name = run_table(run_id, kind), table_name(run_id, kind)
        columns = columns_of(kind, bands)
        conn.execute(
            sql.SQL("CREATE TABLE {} ({})").format(
                table,
                sql.SQL(", ").join(
                    sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in columns
                ),
            )
        )
        for column in columns:
            if column.type.endswith(
                "]"
            ):  # nobody asks for an array's most common elements; finding them takes ANALYZE a second
                conn.execute(
                    sql.SQL("ALTER TABLE {} ALTER {} SET STATISTICS 0").format(
                        table, sql.Identifier(column.name)
                    )
                )
        about = f"What run {run_id} wrote; enriched.{kind} shows the published runs."
        conn.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(about)))
        for column in columns:
            conn.execute(comment_on_column("enriched", name, column.name, column.described))


def table_name(run_id: int, kind: str) -> str:
    return f"r{run_id}_{kind}"


def run_table(run_id: int, kind: str) -> sql.Identifier:
    return sql.Identifier("enriched", table_name(run_id, kind))


def drop_run_tables(conn: Connection, run_id: int) -> None:
    """Remove what the run wrote."""
    for kind in (*KINDS, REQUESTED):
        conn.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(run_table(run_id, kind)))


def _magnitudes(bands: list[BandInfo]) -> list[OutputColumn]:
    columns = []
    for band in bands:
        what = f"{band.name} magnitude ({band.survey_title}, {band.system})"
        magnitude = band.ucd or "phot.mag"  # a user's survey file may leave it out
        modelled, error = f"{magnitude};meta.modelled", f"stat.error;{magnitude}"
        columns += [
            OutputColumn(band.name, "real", Described(
                f"{what}: as measured where its bit in observed is set, else imputed by the model.", "mag", modelled)),
            OutputColumn(f"{band.name}_err", "real", Described(
                f"Half-width of the 68 % interval of {band.name}: the published error where measured, "
                "else calibrated on held-out stars.", "mag", f"{error};meta.modelled")),
            OutputColumn(f"{band.name}_err95", "real", Described(
                f"Half-width of the 95 % interval of {band.name}.", "mag", f"{error};meta.modelled")),
        ]  # fmt: skip
    return [
        *columns,
        OutputColumn("observed", "bigint", Described(
            "Bits (msacat.bands) of the bands that hold a measurement.", "", "meta.code")),
        OutputColumn("suspect", "bigint", Described(
            "Bits of the bands whose value is doubtful: a measurement far from what all else says, or of an object "
            "that other Gaia stars share, or an imputation of a star unlike any the model was trained on, or of a colour "
            "whose spectra taught nothing of a band known through them alone.", "", "meta.code.qual;meta.modelled")),
        OutputColumn("no_support", "bigint", Described(
            "Bits of the bands the model cannot know: measured of fewer than 20 training stars, not reachable through the "
            "XP; NULL.",
            "", "meta.code.qual;meta.modelled")),
        OutputColumn("through_xp", "bigint", Described(
            "Bits of the imputed bands in which fewer than 20 training stars were measured: known only as synthetic "
            "photometry of the XP.",
            "", "meta.code;meta.modelled")),
        OutputColumn("has_input", "boolean", Described(
            "False: nothing was measured of the star that the model can use; all values are NULL.", "", "meta.code")),
    ]  # fmt: skip


def _half(half: str, colour: str) -> list[OutputColumn]:
    upper = half.upper()
    return [
        OutputColumn(f"{half}_coefficients", "real[]", Described(
            f"The 55 {upper} coefficients in Gaia's basis: published where {half}_observed, else predicted.",
            "electron/s", f"phot.flux;em.opt.{colour};meta.modelled")),
        OutputColumn(f"{half}_coefficient_errors", "real[]", Described(
            f"Their errors: published where {half}_observed, else the calibrated 68 % half-widths.",
            "electron/s", f"stat.error;phot.flux;em.opt.{colour};meta.modelled")),
        OutputColumn(f"{half}_observed", "boolean", Described(
            f"The {upper} coefficients were published.", "", "meta.code")),
    ]  # fmt: skip


_XP = [*_half("bp", "B"), *_half("rp", "R")]

_EMBEDDINGS = [
    OutputColumn("embedding", "real[]", Described(
        f"The model's description of the star in {EMBEDDING_WIDTH} numbers; compare with enriched.embedding_distance "
        "within one run.", "", "stat.value;meta.modelled")),
]  # fmt: skip

_METALLICITIES = [
    OutputColumn("fe_h", "real", Described(
        "Iron abundance [Fe/H], on the APOGEE DR17 scale where 20 or more of its labels took part in training, else on "
        "that of the labels there were.", "dex", "phys.abund.Fe;meta.modelled")),
    OutputColumn("fe_h_lo", "real", Described(
        "Lower end of the 68 % interval of fe_h, as far below as fe_h_hi above.", "dex",
        "phys.abund.Fe;stat.min;meta.modelled")),
    OutputColumn("fe_h_hi", "real", Described(
        "Upper end of the 68 % interval of fe_h, calibrated on held-out stars.", "dex",
        "phys.abund.Fe;stat.max;meta.modelled")),
    OutputColumn("teff", "real", Described(
        "Effective temperature.", "K", "phys.temperature.effective;meta.modelled")),
    OutputColumn("teff_err", "real", Described(
        "Half-width of its 68 % interval.", "K", "stat.error;phys.temperature.effective;meta.modelled")),
    OutputColumn("logg", "real", Described(
        "Surface gravity, log10 of cm/s2.", "log(cm.s**-2)", "phys.gravity;meta.modelled")),
    OutputColumn("logg_err", "real", Described(
        "Half-width of its 68 % interval.", "log(cm.s**-2)", "stat.error;phys.gravity;meta.modelled")),
    OutputColumn("suspect", "boolean", Described(
        "The star is unlike the labelled stars the model learned from.", "", "meta.code.qual;meta.modelled")),
]  # fmt: skip
