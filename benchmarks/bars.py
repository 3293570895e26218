"""What the project asks of itself: the least ratio (a peer's seconds over msacat's) of each comparison."""

from __future__ import annotations

#: (stage, how the peer's name begins) -> least ratio
BARS = {
    ("ingest-numeric", "COPY FROM"): 0.65,
    ("ingest-numeric", "\\copy of CSV"): 2.0,
    ("ingest-published", "decompress"): 0.6,
    ("ingest-xp", "GaiaXPy"): 10.0,
    ("ingest-xp", "decompress"): 0.6,
    ("crossmatch", "q3c_join"): 3.0,
    ("crossmatch", "LSDB"): 2.3,
    ("crossmatch", "astropy"): 2.5,
    ("stream", "uncompressed Parquet"): 2.0,
    ("stream", "the same steps"): 1 / 1.05,
    ("train", "published architecture"): 2.0,
    ("enrich", "forward pass"): 0.8,
    ("query", "limit of"): 1.0,
    ("query", "numpy"): 0.5,
}


def bar_of(stage: str, peer: str) -> float | None:
    """None: no bar, the comparison only informs."""
    return next((bar for (s, start), bar in BARS.items() if s == stage and peer.startswith(start)), None)
