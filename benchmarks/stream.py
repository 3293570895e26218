"""stream: shuffled stars to torch batches, and what a training epoch loses by reading from the server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from harness import Record, Side, Took, compare, peak_mb
from made_up_store import MadeUpStore, made_up_store
from sizes import Size, mixture_size
from temporary_server import TemporaryServer

from msacat.catalog.server.connect import connect
from msacat.catalog.stream.model_ledger import start_model
from msacat.catalog.stream.split_sky import make_split
from msacat.catalog.stream.stream_stars import STARS_A_BLOCK, StarStream, pack_blocks
from msacat.catalog.surveys.star_block import StarBlock
from msacat.model.train_autoencoder import train
from msacat.model.train_config import TrainConfig

STAGE, SEED = "stream", 0
_PACKED: dict[str, StarStream] = {}


def ours(server: TemporaryServer, n: int, folder: Path) -> Side:
    return _epoch(packed_stream(made_up_store(server, n)))[0]


def run(server: TemporaryServer, size: Size, folder: Path) -> list[Record]:
    store = made_up_store(server, size.stars)
    stream = packed_stream(store)
    mine, stars = _epoch(stream)
    n, width = len(stars), sum(part.shape[1] for part in arrays(stars))
    parquet = folder / "stars.parquet"
    _write_parquet(stars, parquet)
    peer = Side(
        "uncompressed Parquet, row groups in random order",
        lambda: _consume(_parquet_tensors(parquet, width)), mine.check,
    )  # fmt: skip
    work = f"an epoch of shuffled stars, {width} float32 each, to torch tensors"
    memory = (
        peak_mb(_stream_epoch, store.dsn, stream.model_id, stream.features) if size.measure_memory else 0.0
    )
    records = compare(STAGE, work, n, mine, [peer], size.rounds, memory)
    return records + _training_epoch(stream, stars, size, folder)


def _epoch(stream: StarStream) -> tuple[Side, StarBlock]:
    """An epoch through the wire, and the stars it must consist of."""
    stars = StarBlock.concatenate(list(stream.blocks("train", 0, SEED)))
    assert len(np.unique(stars.source_id_B)) == len(stars), "a star twice"
    expected = _consume([arrays(stars)])

    def check(seen: tuple[int, int]) -> None:
        assert seen == expected, f"{seen[0]} stars of {expected[0]}, or other numbers than were stored"

    return Side("msacat", lambda: _consume(map(arrays, stream.blocks("train", 1, SEED))), check), stars


def packed_stream(store: MadeUpStore) -> StarStream:
    """The packed stars of a store, made once and shared by the stages that need them."""
    if store.dsn not in _PACKED:
        _PACKED[store.dsn] = pack(store, "packed")
    return _PACKED[store.dsn]


def pack(store: MadeUpStore, name: str) -> StarStream:
    """The stars of a store, split and packed as `msacat train` does it."""
    model_id, split = started_model(store, name)
    pack_blocks(store.dsn, model_id, store.features, split, SEED)
    return StarStream(store.dsn, model_id, store.features)


def started_model(store: MadeUpStore, name: str) -> tuple[int, int]:
    """(model_id, split_id) of a model in the ledger."""
    with connect(store.dsn) as conn:
        split = make_split(conn, "gaia_source", SEED)
        model_id = start_model(conn, name, Path(name), store.features, {}, split, None)
        conn.commit()
    return model_id, split


def arrays(block: StarBlock) -> list[torch.Tensor]:
    """Everything a model reads of each star, as float32 tensors; labels left out."""
    parts = (
        block.mag_BM,
        block.mag_err_BM,
        block.xp_BK,
        block.xp_err_BK,
        block.scalar_BS,
        block.scalar_err_BS,
    )
    return [torch.from_numpy(part) for part in parts]


def _parquet_tensors(path: Path, width: int) -> Iterator[list[torch.Tensor]]:
    rng = np.random.default_rng(1)
    with pq.ParquetFile(path, memory_map=True) as file:
        for group in rng.permutation(file.num_row_groups):
            column = file.read_row_group(int(group), columns=["star"]).column("star")
            flat = column.combine_chunks().flatten()
            rows = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
            yield [torch.from_numpy(rows[rng.permutation(len(rows))])]


def _consume(batches: Iterable[list[torch.Tensor]]) -> tuple[int, int]:
    """Stars seen, and the exclusive or of all their bits: every number is touched, in whatever order it comes."""
    n, bits = 0, 0
    for tensors in batches:
        n += len(tensors[0])
        for tensor in tensors:
            bits ^= int(np.bitwise_xor.reduce(tensor.numpy().reshape(-1).view(np.uint32)))
    return n, bits


def _stream_epoch(dsn: str, model_id: int, features) -> None:
    _consume(map(arrays, StarStream(dsn, model_id, features).blocks("train", 1, SEED)))


def _write_parquet(stars: StarBlock, path: Path) -> None:
    rows = torch.cat(arrays(stars), dim=1).numpy()
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    table = pa.table({"source_id": pa.array(stars.source_id_B), "star": lists})
    pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=STARS_A_BLOCK)


@dataclass
class MemoryStream:
    """The same blocks, kept in memory: what the trainer would read if reading cost nothing."""

    stream: StarStream
    blocks_of: dict[str, list[StarBlock]] = field(default_factory=dict)

    @property
    def features(self):
        return self.stream.features

    def n_stars(self, part: str) -> int:
        return self.stream.n_stars(part)

    def blocks(self, part: str, epoch: int, seed: int, skip: int = 0) -> Iterator[StarBlock]:
        if part not in self.blocks_of:
            self.blocks_of[part] = list(self.stream.blocks(part, 0, SEED))
        held = self.blocks_of[part]
        order = np.random.default_rng([seed, epoch]).permutation(len(held))
        for i in order[skip:]:
            yield held[i]


def _training_epoch(stream: StarStream, stars: StarBlock, size: Size, folder: Path) -> list[Record]:
    steps = 4 * size.steps
    components, latent = mixture_size()
    config = TrainConfig(steps=steps, prior_stars=2000, prior_passes=1, components=components, latent=latent,
                         calibrate_stars=500, device="cpu", checkpoint_seconds=1e9)  # fmt: skip
    in_memory = MemoryStream(stream, {"train": in_blocks(stars)})

    def side(name: str, source) -> Side:
        return Side(name, lambda: time_steps(source, folder, config), check_steps(steps))

    work = f"{steps} training steps of {config.batch_size} stars, the first left out"
    peer = side("the same steps on tensors in memory", in_memory)
    return compare(
        STAGE, work, timed_rows(steps, config.batch_size), side("msacat", stream), [peer], size.rounds
    )


def in_blocks(stars: StarBlock) -> list[StarBlock]:
    return [stars.take(slice(i, i + STARS_A_BLOCK)) for i in range(0, len(stars), STARS_A_BLOCK)]


def time_steps(source, folder: Path, config: TrainConfig) -> Took:
    """Seconds from the end of the first step to the end of the last: prior and calibration stay outside."""
    seconds: list[float] = []
    model = folder / f"model_{len(list(folder.glob('model_*')))}"
    train(source, model, config, on_step=lambda step: seconds.append(step.seconds))
    return Took(seconds[-1] - seconds[0], len(seconds))


def timed_rows(steps: int, batch: int) -> int:
    """Stars of the steps that time_steps() counts: all but the first."""
    return (steps - 1) * batch


def check_steps(steps: int):
    def check(done: int) -> None:
        assert done == steps, f"{done} steps of {steps}"

    return check
