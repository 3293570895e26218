"""enrich: stars out of the store, through the model, calibrated, back into tables with keys, verified and published.

The peer is the forward pass alone: prior and network on stars that lie encoded in memory, nothing read or written, in as
many threads with as many of torch's as msacat has.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path

import psycopg
import torch
from harness import Record, Side, compare, peak_mb
from made_up_store import MadeUpStore, made_up_store
from sizes import Size, mixture_size
from stream import SEED, packed_stream
from temporary_server import TemporaryServer

from msacat.catalog.enrich.publish_enriched import drop_run, publish_run, verify_run
from msacat.catalog.enrich.write_enriched import LANES, RunRequest, start_run, write_chunks
from msacat.catalog.server.connect import connect
from msacat.catalog.stream.stream_stars import StarStream
from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.predict_stars import BATCH, StarModel
from msacat.model.train_autoencoder import train
from msacat.model.train_config import TrainConfig

STAGE, WORK = (
    "enrich",
    "18 bands, XP, labels of every star: read, predict, calibrate, write, verify, index, publish",
)
STARS_IN_MEMORY = 100_000  # of the forward pass, gone through again and again
KINDS = ["magnitudes", "xp_coefficients", "embeddings", "metallicities"]


def ours(server: TemporaryServer, n: int, folder: Path) -> Side:
    return Ours(made_up_store(server, n), folder).side()


def run(server: TemporaryServer, size: Size, folder: Path) -> list[Record]:
    mine = Ours(made_up_store(server, size.stars), folder)
    memory = 0.0
    if size.measure_memory:
        few, memory = (
            peak_mb(_enrich, mine.store.dsn, mine.model_id, mine.folder, f"s.source_id <= {last}")
            for last in (mine.store.source_id[size.stars // 50], mine.store.source_id[size.stars // 10])
        )
        assert memory < 1.25 * few, f"{memory:.0f} MB for five times the stars that take {few:.0f} MB"
    return compare(STAGE, WORK, size.stars, mine.side(), [_forward_alone(mine)], size.rounds, memory)


class Ours:
    """`msacat enrich` of a whole store by a model of default size, trained for a few steps."""

    def __init__(self, store: MadeUpStore, folder: Path) -> None:
        self.store = store
        self.folder = folder / f"enricher_{store.n_stars}"
        self.stream: StarStream = packed_stream(store)
        self.model_id = self.stream.model_id
        components, latent = mixture_size()
        # A trained model's size, not its skill.
        config = TrainConfig(steps=20, prior_stars=5000, prior_passes=1, components=components, latent=latent,
                             calibrate_stars=2000, device="cpu", checkpoint_seconds=1e9)  # fmt: skip
        train(self.stream, self.folder, config)

    def side(self) -> Side:
        return Side("msacat", partial(_enrich, self.store.dsn, self.model_id, self.folder), self.check)

    def check(self, run_id: int) -> None:
        """Every star once in every table, what was measured unchanged; then the run is dropped."""
        n = self.store.n_stars
        with psycopg.connect(self.store.dsn) as conn:
            for kind in KINDS:
                row = conn.execute(
                    f"SELECT count(*), count(DISTINCT source_id) FROM enriched.r{run_id}_{kind}"
                ).fetchone()
                assert row == (n, n), f"{kind}: {row} rows and stars of {n}"
            row = conn.execute(
                f"SELECT count(*) FROM enriched.r{run_id}_magnitudes m JOIN survey.gaia_source g USING (source_id) "
                "WHERE m.gaia_g IS DISTINCT FROM g.phot_g_mean_mag"
            ).fetchone()
            assert row == (0,), f"{row} measured magnitudes changed"
            drop_run(conn, run_id)


def _enrich(dsn: str, model_id: int, folder: Path, where: str | None = None) -> int:
    model, request = StarModel.load(folder, "cpu"), RunRequest(where)
    with connect(dsn) as conn:
        run_id = start_run(conn, model_id, request, KINDS)
    with shared_threads():
        write_chunks(dsn, run_id, request, model.features, model.predict, KINDS)
    with connect(dsn) as conn:
        verify_run(conn, run_id)
        publish_run(conn, run_id)
    return run_id


@contextmanager
def shared_threads() -> Iterator[None]:
    """Torch's threads divided among the lanes, as the command does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // LANES))
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _forward_alone(mine: Ours) -> Side:
    model = StarModel.load(mine.folder, "cpu")
    blocks, held = [], 0
    for block in mine.stream.blocks("train", 0, SEED):
        blocks.append(block)
        held += len(block)
        if held >= STARS_IN_MEMORY:
            break
    stars = StarBlock.concatenate(blocks)
    cells = model.scaling.encode(stars)
    batches = [cells.take(slice(i, i + BATCH)).to(model.device) for i in range(0, len(stars), BATCH)]
    turns, n = [], 0
    for batch in cycle(batches):
        turns.append(batch)
        n += len(batch.norm_B)
        if n >= mine.store.n_stars:
            break

    def lane(first: int) -> int:
        done = 0
        with torch.inference_mode():
            for batch in turns[first::LANES]:
                _, out = model.network(batch, batch.observed_BD, model.autocast)
                assert out.mean_BD.shape[0] == len(batch.norm_B)
                done += len(batch.norm_B)
        return done

    def forward() -> int:
        with shared_threads(), ThreadPoolExecutor(LANES) as pool:
            return sum(pool.map(lane, range(LANES)))

    def check(done: int) -> None:
        assert mine.store.n_stars <= done < mine.store.n_stars + BATCH

    return Side("forward pass alone, of stars in memory", forward, check)
