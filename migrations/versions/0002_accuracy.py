"""Records of `msacat evaluate`, so that an interrupted evaluation continues."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from msacat.migrations.described import described as col

revision = "0002"
down_revision = "0001"

TEXT, BIG = sa.Text(), sa.BigInteger()
DOUBLE: sa.Double = sa.Double()


def upgrade() -> None:
    op.create_table(
        "accuracy",
        col("key", TEXT, "Hash of data, regime, method, settings and seed.", ucd="meta.checksum", nullable=False),
        col("dataset", TEXT, "sky, sky-dirty, apogee or m67; <dataset>:<class> for what is no ordinary star.",
            ucd="meta.dataset", nullable=False),
        col("regime", TEXT, "What was hidden from the methods.", ucd="meta.code", nullable=False),
        col("quantity", TEXT, "A band, xp, synthetic_<filter> or fe_h.", ucd="meta.id", nullable=False),
        col("g_bin", TEXT, "Range of G, such as 17-18, or all.", ucd="meta.code", nullable=False),
        col("method", TEXT, "msacat, msacat:<arm>, or an opponent.", ucd="meta.id", nullable=False),
        col("against", TEXT, "truth or observed.", ucd="meta.code", nullable=False),
        col("n", BIG, "Values compared.", ucd="meta.number", nullable=False),
        col("bias", DOUBLE, "Median of imputed minus true.", ucd="stat.value;arith.diff;stat.median"),
        col("nmad", DOUBLE, "1.4826 median |imputed - true - bias|.", ucd="stat.stdev"),
        col("nmad_lo", DOUBLE, "16 % quantile of nmad under a bootstrap over sky cells.", ucd="stat.stdev;stat.min"),
        col("nmad_hi", DOUBLE, "84 % quantile of nmad under a bootstrap over sky cells.", ucd="stat.stdev;stat.max"),
        col("mae", DOUBLE, "Mean |imputed - true|.", ucd="stat.value;arith.diff;stat.mean"),
        col("rmse", DOUBLE, "Root mean square of imputed - true.", ucd="stat.error"),
        col("outliers", DOUBLE, "Share beyond 0.25.", ucd="stat.probability"),
        col("coverage68", DOUBLE, "Share inside the stated 68 % interval.", ucd="stat.probability"),
        col("coverage95", DOUBLE, "Share inside the stated 95 % interval.", ucd="stat.probability"),
        col("crps", DOUBLE, "Mean continuous ranked probability score.", ucd="stat.value"),
        col("hallucinated", DOUBLE, "Share beyond 5 stated errors or 0.5.", ucd="stat.probability"),
        col("seed", BIG, "Of split, cells and fits.", ucd="meta.number", nullable=False),
        col("stars", BIG, "Stars of the dataset.", ucd="meta.number", nullable=False),
        col("commit", TEXT, "Code that judged.", ucd="meta.version;meta.software", nullable=False),
        col("date", TEXT, "Day of the judgement, ISO 8601.", ucd="time.epoch", nullable=False),
        col("seconds", DOUBLE, "Time to fit and answer.", unit="s", ucd="time.duration", nullable=False),
        sa.PrimaryKeyConstraint("key", "dataset", "quantity", "g_bin", "against"),
        schema="learned",
        comment="Records of msacat evaluate; units as the quantity: mag, dex, or a coefficient's scatter.",
    )  # fmt: skip


def downgrade() -> None:
    op.execute("DROP TABLE learned.accuracy")
