"""Everything every store has: ledgers, surveys, bands, splits, models, runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from msacat.migrations.described import described as col

revision = "0001"
down_revision = None

TEXT, BIG, INT = sa.Text(), sa.BigInteger(), sa.Integer()
DOUBLE: sa.Double = sa.Double()
TIME, JSON, IDS = sa.DateTime(timezone=True), pg.JSONB(), pg.ARRAY(sa.Integer())


def upgrade() -> None:
    for schema, what in {
        "survey": "What the publishers published: one table a survey, never changed after ingest.",
        "matched": "Which survey object is which Gaia star: one table a survey, and the joined view stars.",
        "learned": "Models: what they were trained on, how training went, how good they are.",
        "enriched": "What the models know: one set of tables a run, and the published views.",
    }.items():
        op.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        op.execute(f"COMMENT ON SCHEMA {schema} IS '{what}'")
    op.execute("COMMENT ON SCHEMA msacat IS 'Ledgers: files, surveys, bands, splits, matches, runs.'")
    op.execute("COMMENT ON TABLE msacat.alembic_version IS 'Revision of this schema, kept by Alembic.'")
    op.execute(
        "COMMENT ON COLUMN msacat.alembic_version.version_num IS 'The revision. unit=- ucd=meta.version'"
    )
    _surveys()
    _files()
    _splits()
    _models()
    _runs()
    op.execute("""
        CREATE FUNCTION enriched.embedding_distance(a real[], b real[]) RETURNS double precision
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
        $$ SELECT sqrt(sum((x - y)::double precision * (x - y))) FROM unnest(a, b) AS pair(x, y) $$""")
    op.execute("""COMMENT ON FUNCTION enriched.embedding_distance(real[], real[]) IS
        'Euclidean distance of two embeddings of the same model; small = alike. unit=- ucd=stat.value'""")


def _surveys() -> None:
    op.create_table(
        "releases",
        col("release", TEXT, "Name of a data release.", ucd="meta.version", primary_key=True),
        col("epoch", DOUBLE, "Epoch of its positions, Julian year.", unit="yr", ucd="time.epoch", nullable=False),
        col("is_reference", sa.Boolean(), "The one release every source_id of this store belongs to.",
            ucd="meta.code", nullable=False),
        schema="msacat", comment="Data releases this store has met; one is the reference.",
    )  # fmt: skip
    op.create_index("one_reference", "releases", ["is_reference"], unique=True, schema="msacat",
                    postgresql_where=sa.text("is_reference"))  # fmt: skip
    op.create_table(
        "surveys",
        col("name", TEXT, "Dataset keyword; its table is survey.<name>.", ucd="meta.id;meta.main", primary_key=True),
        col("version", INT, "Version of the survey file.", ucd="meta.version", nullable=False),
        col("release", TEXT, "Data release the survey file describes.", ucd="meta.version", nullable=False),
        col("role", TEXT, "reference, photometry, spectra, labels or matches.", ucd="meta.code", nullable=False),
        col("title", TEXT, "Name of the survey in words.", ucd="meta.title", nullable=False),
        col("spec", JSON, "The whole survey file as registered.", ucd="meta.dataset", nullable=False),
        col("fingerprint", TEXT, "sha256 of the survey file's meaning.", ucd="meta.checksum", nullable=False),
        col("adopted_from", TEXT, "The table a view stands on, where the survey was adopted.", ucd="meta.ref"),
        col("registered", TIME, "When it was registered.", ucd="time.creation", nullable=False,
            server_default=sa.func.now()),
        schema="msacat", comment="Registered surveys and their declarative files.",
    )  # fmt: skip
    op.create_table(
        "bands",
        col("band", TEXT, "Name of the band, for ever.", ucd="meta.id;instr.bandpass", primary_key=True),
        col("bit", sa.SmallInteger(), "Its bit in observed, suspect and no_support.", ucd="meta.code",
            nullable=False, unique=True),
        col("survey", TEXT, "Survey that publishes it.", ucd="meta.id", nullable=False),
        col("mag_column", TEXT, "Column of the magnitude in survey.<survey>.", ucd="meta.id", nullable=False),
        col("err_column", TEXT, "Column of its 1-sigma error.", ucd="meta.id", nullable=False),
        col("system", TEXT, "Magnitude system as published.", ucd="meta.note", nullable=False),
        col("zero_point_jy", DOUBLE, "Flux density of magnitude 0.", unit="Jy", ucd="phot.flux.density",
            nullable=False),
        col("wavelength_nm", DOUBLE, "Effective wavelength.", unit="nm", ucd="em.wl.effective", nullable=False),
        col("width_nm", DOUBLE, "Effective width.", unit="nm", ucd="instr.bandwidth", nullable=False),
        col("typical_err", DOUBLE, "Error assumed where none is published.", unit="mag",
            ucd="stat.error;phot.mag", nullable=False),
        col("xp", TEXT, "Synthetic-photometry row through which the XP spectrum predicts it.", ucd="meta.ref"),
        sa.CheckConstraint("bit BETWEEN 0 AND 62", name="bit_fits_bigint"),
        sa.ForeignKeyConstraint(["survey"], ["msacat.surveys.name"]),
        schema="msacat", comment="Photometric bands and the bit each has in every bitmask.",
    )  # fmt: skip


def _files() -> None:
    op.create_table(
        "files",
        col("file_id", INT, "Number of the file in this store.", ucd="meta.id;meta.main",
            primary_key=True, autoincrement=False),
        col("survey", TEXT, "Dataset it was ingested as.", ucd="meta.id", nullable=False),
        col("release", TEXT, "Release it belongs to.", ucd="meta.version", nullable=False),
        col("path", TEXT, "Where it lay when ingested.", ucd="meta.id;meta.file", nullable=False),
        col("bytes", BIG, "Size on disk.", unit="byte", ucd="meta.number"),
        col("raw_sha256", TEXT, "sha256 of the file as it lay.", ucd="meta.checksum"),
        col("content_sha256", TEXT, "sha256 of its decompressed bytes.", ucd="meta.checksum", nullable=False),
        col("format", TEXT, "Format recognised.", ucd="meta.note"),
        col("rows_read", BIG, "Data rows in the file.", ucd="meta.number", nullable=False),
        col("rows_kept", BIG, "Rows now in the survey table.", ucd="meta.number", nullable=False),
        col("rows_rejected", JSON, "Rows not stored, counted by reason.", ucd="meta.number", nullable=False,
            server_default="{}"),
        col("values_nulled", JSON, "Values that became NULL, counted by column and reason.", ucd="meta.number",
            nullable=False, server_default="{}"),
        col("columns_unused", pg.ARRAY(TEXT), "Published columns the survey file does not name.", ucd="meta.note"),
        col("min_source_id", BIG, "Smallest Gaia source_id in it, where it carries one.", ucd="meta.id"),
        col("max_source_id", BIG, "Largest Gaia source_id in it, where it carries one.", ucd="meta.id"),
        col("spec_version", INT, "Version of the survey file used.", ucd="meta.version", nullable=False),
        col("spec_fingerprint", TEXT, "Fingerprint of the survey file used.", ucd="meta.checksum", nullable=False),
        col("code_version", TEXT, "msacat version.", ucd="meta.version;meta.software", nullable=False),
        col("host", TEXT, "Machine that ran the ingest.", ucd="meta.note"),
        col("started", TIME, "When the ingest of the file began.", ucd="time.start"),
        col("committed", TIME, "When its rows became visible.", ucd="time.end", nullable=False,
            server_default=sa.func.now()),
        sa.UniqueConstraint("survey", "content_sha256", name="same_bytes_once"),
        sa.ForeignKeyConstraint(["survey"], ["msacat.surveys.name"]),
        schema="msacat", comment="One row a file: in with all its rows, or absent with none.",
    )  # fmt: skip
    op.execute("ALTER TABLE msacat.files ALTER file_id ADD GENERATED ALWAYS AS IDENTITY")
    op.create_table(
        "crossmatches",
        col("dataset", TEXT, "Survey matched to the reference.", ucd="meta.id;meta.main", primary_key=True),
        col("reference", TEXT, "Dataset it was matched to.", ucd="meta.id", nullable=False),
        col("fingerprint", TEXT, "Hash of the inputs: files on both sides, survey files.", ucd="meta.checksum"),
        col("file_ids", IDS, "Files of both sides it was made from.", ucd="meta.id", nullable=False,
            server_default="{}"),
        col("max_pm", DOUBLE, "Fastest proper motion among the reference stars matched so far.", unit="mas/yr",
            ucd="pos.pm;stat.max", nullable=False, server_default="0"),
        col("radius_arcsec", DOUBLE, "Match radius.", unit="arcsec", ucd="pos.angDistance"),
        col("n_matched", BIG, "Stars with a match.", ucd="meta.number", nullable=False),
        col("n_unmatched", BIG, "Stars with candidates but no match.", ucd="meta.number", nullable=False),
        col("by_method", JSON, "Matches counted by method.", ucd="meta.number", nullable=False),
        col("started", TIME, "When the match began.", ucd="time.start", nullable=False),
        col("finished", TIME, "When it was committed.", ucd="time.end", nullable=False),
        col("code_version", TEXT, "msacat version.", ucd="meta.version;meta.software", nullable=False),
        sa.ForeignKeyConstraint(["dataset"], ["msacat.surveys.name"]),
        schema="msacat", comment="The current cross-match of each survey; out of date when fingerprints differ.",
    )  # fmt: skip


def _splits() -> None:
    op.create_table(
        "split_sets",
        col("split_id", INT, "Number of the split.", ucd="meta.id;meta.main", primary_key=True, autoincrement=False),
        col("kind", TEXT, "cells: by hash of HEALPix cell; stars: the user's own file.", ucd="meta.code",
            nullable=False),
        col("seed", INT, "Seed of the hash.", ucd="meta.number"),
        col("level", INT, "HEALPix level of the cells.", ucd="pos.healpix"),
        col("cell_divisor", BIG, "cell = source_id / cell_divisor.", ucd="meta.number", nullable=False),
        col("fingerprint", TEXT, "Hash of what defines the split.", ucd="meta.checksum", nullable=False, unique=True),
        col("created", TIME, "When it was made.", ucd="time.creation", nullable=False, server_default=sa.func.now()),
        schema="msacat", comment="How stars were divided into train, calibrate and test.",
    )  # fmt: skip
    op.execute("ALTER TABLE msacat.split_sets ALTER split_id ADD GENERATED ALWAYS AS IDENTITY")
    op.create_table(
        "splits",
        col("split_id", INT, "The split.", ucd="meta.id", primary_key=True, autoincrement=False),
        col("cell", BIG, "source_id / cell_divisor of its split set.", ucd="pos.healpix", primary_key=True,
            autoincrement=False),
        col("part", TEXT, "train, calibrate or test.", ucd="meta.code", nullable=False),
        sa.CheckConstraint("part IN ('train', 'calibrate', 'test')", name="part_is_known"),
        sa.ForeignKeyConstraint(["split_id"], ["msacat.split_sets.split_id"], ondelete="CASCADE"),
        schema="msacat", comment="The part of each sky cell; whole cells, so that neighbours never leak.",
    )  # fmt: skip


def _models() -> None:
    op.create_table(
        "models",
        col("model_id", INT, "Number of the model.", ucd="meta.id;meta.main", primary_key=True, autoincrement=False),
        col("name", TEXT, "Name the user gave.", ucd="meta.id", nullable=False, unique=True),
        col("state", TEXT, "training, finished, imported, failed or stale.", ucd="meta.code.status", nullable=False),
        col("stale_reason", TEXT, "Why it is stale.", ucd="meta.note"),
        col("folder", TEXT, "Where its folder lies.", ucd="meta.id;meta.file", nullable=False),
        col("sha256", TEXT, "sha256 of its manifest.", ucd="meta.checksum"),
        col("features", JSON, "Its inputs and outputs, in order.", ucd="meta.dataset"),
        col("config", JSON, "Training configuration.", ucd="meta.dataset"),
        col("split_id", INT, "Split it was trained on.", ucd="meta.id"),
        col("file_ids", IDS, "Files its training data came from.", ucd="meta.id", nullable=False,
            server_default="{}"),
        col("where_sql", TEXT, "The --where of its training.", ucd="meta.note"),
        col("n_train", BIG, "Stars it was trained on.", ucd="meta.number"),
        col("report", JSON, "What training reported.", ucd="meta.dataset"),
        col("code_version", TEXT, "msacat version.", ucd="meta.version;meta.software", nullable=False),
        col("started", TIME, "When training began.", ucd="time.start", nullable=False, server_default=sa.func.now()),
        col("finished", TIME, "When training ended.", ucd="time.end"),
        sa.CheckConstraint("state IN ('training', 'finished', 'imported', 'failed', 'stale')", name="state_is_known"),
        sa.ForeignKeyConstraint(["split_id"], ["msacat.split_sets.split_id"]),
        schema="learned", comment="Models trained here or imported.",
    )  # fmt: skip
    op.execute("ALTER TABLE learned.models ALTER model_id ADD GENERATED ALWAYS AS IDENTITY")
    model_id = lambda: col("model_id", INT, "The model.", ucd="meta.id", nullable=False)  # noqa: E731
    cascade = lambda: sa.ForeignKeyConstraint(["model_id"], ["learned.models.model_id"], ondelete="CASCADE")  # noqa: E731
    op.create_table(
        "train_steps",
        model_id(),
        col("step", BIG, "Optimiser steps so far.", ucd="meta.number", nullable=False),
        col("seconds", DOUBLE, "Seconds since training began.", unit="s", ucd="time.duration", nullable=False),
        col("name", TEXT, "What was measured: a loss, a norm, a rate.", ucd="meta.id", nullable=False),
        col("value", DOUBLE, "Its value.", ucd="stat.value", nullable=False),
        sa.PrimaryKeyConstraint("model_id", "step", "name"), cascade(),
        schema="learned", comment="How training went.",
    )  # fmt: skip
    op.create_table(
        "scores",
        model_id(),
        col("part", TEXT, "Part of the split scored.", ucd="meta.code", nullable=False),
        col("regime", TEXT, "What was hidden from the model.", ucd="meta.code", nullable=False),
        col("quantity", TEXT, "A band, xp, fe_h, teff or logg.", ucd="meta.id", nullable=False),
        col("n", BIG, "Held-out values.", ucd="meta.number", nullable=False),
        col("unit", TEXT, "Unit of bias, nmad and rmse.", ucd="meta.unit", nullable=False),
        col("bias", DOUBLE, "Median of predicted minus observed.", ucd="stat.value;arith.diff;stat.median"),
        col("nmad", DOUBLE, "1.4826 median |predicted - observed - bias|.", ucd="stat.stdev"),
        col("rmse", DOUBLE, "Root mean square of predicted - observed.", ucd="stat.error"),
        col("coverage68", DOUBLE, "Share of observed values inside the 68 % interval.", ucd="stat.probability"),
        col("coverage95", DOUBLE, "Share of observed values inside the 95 % interval.", ucd="stat.probability"),
        sa.PrimaryKeyConstraint("model_id", "part", "regime", "quantity"), cascade(),
        schema="learned", comment="Held-out numbers, against observed values on sky cells never trained on.",
    )  # fmt: skip
    op.create_table(
        "offsets",
        model_id(),
        col("quantity", TEXT, "A band (against the XP) or <survey>.<label> (against the reference scale).",
            ucd="meta.id", nullable=False),
        col("offset_value", DOUBLE, "Fitted offset, survey minus reference.", ucd="arith.zp", nullable=False),
        col("unit", TEXT, "Its unit.", ucd="meta.unit", nullable=False),
        sa.PrimaryKeyConstraint("model_id", "quantity"), cascade(),
        schema="learned", comment="Zero-point and label-scale offsets fitted with the model.",
    )  # fmt: skip


def _runs() -> None:
    op.create_table(
        "runs",
        col("run_id", BIG, "Number of the enrichment run.", ucd="meta.id;meta.main", primary_key=True,
            autoincrement=False),
        col("model_id", INT, "Model that made it.", ucd="meta.id", nullable=False),
        col("state", TEXT, "running, verified, published, superseded, stale or dropped.", ucd="meta.code.status",
            nullable=False),
        col("stale_reason", TEXT, "Why it is stale.", ucd="meta.note"),
        col("file_ids", IDS, "Files its inputs came from.", ucd="meta.id", nullable=False, server_default="{}"),
        col("request", JSON, "What was asked: where, ids, new.", ucd="meta.dataset", nullable=False),
        col("n_stars", BIG, "Stars asked for.", ucd="meta.number", nullable=False),
        col("code_version", TEXT, "msacat version.", ucd="meta.version;meta.software", nullable=False),
        col("started", TIME, "When it began.", ucd="time.start", nullable=False, server_default=sa.func.now()),
        col("verified", TIME, "When its rows were counted and checked.", ucd="time.end"),
        col("published", TIME, "Since when the views show it; NULL: they do not.", ucd="time.release"),
        sa.CheckConstraint("state IN ('running', 'verified', 'published', 'superseded', 'stale', 'dropped')",
                           name="state_is_known"),
        sa.ForeignKeyConstraint(["model_id"], ["learned.models.model_id"]),
        schema="msacat", comment="Enrichment runs: provenance of every value in schema enriched.",
    )  # fmt: skip
    op.execute("ALTER TABLE msacat.runs ALTER run_id ADD GENERATED ALWAYS AS IDENTITY")
    op.create_table(
        "run_chunks",
        col("run_id", BIG, "The run.", ucd="meta.id", primary_key=True, autoincrement=False),
        col("chunk", INT, "Number of the chunk.", ucd="meta.id", primary_key=True, autoincrement=False),
        col("first_source_id", BIG, "Its first star.", ucd="meta.id", nullable=False),
        col("last_source_id", BIG, "Its last star.", ucd="meta.id", nullable=False),
        col("n_stars", INT, "Stars in it.", ucd="meta.number", nullable=False),
        col("done", sa.Boolean(), "Its rows are committed.", ucd="meta.code.status", nullable=False,
            server_default=sa.false()),
        col("worker", TEXT, "Process that wrote it.", ucd="meta.note"),
        col("finished", TIME, "When it was committed.", ucd="time.end"),
        sa.ForeignKeyConstraint(["run_id"], ["msacat.runs.run_id"], ondelete="CASCADE"),
        schema="msacat", comment="Chunks of a run: each written exactly once, with its rows.",
    )  # fmt: skip


def downgrade() -> None:
    op.execute("DROP SCHEMA enriched CASCADE")
    op.execute("DROP SCHEMA learned CASCADE")
    op.execute("DROP SCHEMA matched CASCADE")
    op.execute("DROP SCHEMA survey CASCADE")
    for table in (
        "run_chunks",
        "runs",
        "splits",
        "split_sets",
        "crossmatches",
        "files",
        "bands",
        "surveys",
        "releases",
    ):
        op.execute(f"DROP TABLE IF EXISTS msacat.{table} CASCADE")
