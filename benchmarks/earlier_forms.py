"""What speed.md must say of records that an earlier form of the benchmark made; nothing of those made since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

SINCE = "2026-11-30T10:20Z"
TORCH = "MB holds some 190 of torch, which msacat does not load here"
#: stage -> how its earlier form differed
DIFFERED = {
    "ingest-numeric": f"psql's side wrote a log, sums of columns were compared and not rows; {TORCH}",
    "ingest-published": f"sums of columns were compared and not rows; {TORCH}",
    "ingest-xp": f"decompression for the count was of the whole file at once, which is slower; {TORCH}",
    "crossmatch": f"false pairs were not bounded; {TORCH}",
    "enrich": "one round; the forward pass ran in one thread with all of torch's, msacat's in two with one each",
    "query": "one cone was judged by its number of stars; neighbours found in SQL were not judged",
}
GROWTH = "`train` of this table: one step too few was timed (38 of 39, 116 of 117)."
PROFILE = "Inflating was measured of a whole file at once, which is slower than in pieces."


def earlier_forms(speed: Sequence[dict]) -> Iterator[str]:
    """Lines of a list: the stages whose records are from before SINCE."""
    old = {r["stage"] for r in speed if r["date"] < SINCE}
    yield from (f"- `{stage}`: {words}." for stage, words in DIFFERED.items() if stage in old)


def earlier_profile(profile: dict) -> list[str]:
    return [PROFILE] if profile["date"] < SINCE else []


def earlier_growth(points: Sequence[dict]) -> list[str]:
    old = any(p["stage"] == "train" and p["date"] < SINCE for p in points)
    return [GROWTH] if old else []
