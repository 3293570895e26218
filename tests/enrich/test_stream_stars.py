"""The training stream: exactly the snapshot, shuffled, resumable."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest

from msacat.catalog.errors import InputRejected, UsageError
from msacat.catalog.server.connect import connect
from msacat.catalog.store.register_survey import registered_specs
from msacat.catalog.store.star_view import star_features
from msacat.catalog.stream.split_sky import PARTS, load_split, make_split, part_of
from msacat.catalog.stream.stream_stars import StarStream, decode_block, encode_block, pack_blocks
from msacat.catalog.surveys.star_block import StarBlock


@pytest.fixture
def stream(made_up) -> StarStream:
    with connect(made_up.dsn) as conn:
        features = star_features(conn, registered_specs(conn))
        split_id = make_split(conn, "gaia_made_up", seed=3)
    counts = pack_blocks(made_up.dsn, 1, features, split_id, seed=3)
    # one star has neither G nor anything else... unless it is among every third
    assert sum(counts.values()) == len(made_up.source_id) - 1
    return StarStream(made_up.dsn, 1, features)


def whole(stream: StarStream, part: str, epoch: int = 0, seed: int = 0) -> StarBlock:
    return StarBlock.concatenate(list(stream.blocks(part, epoch, seed)))


def test_each_star_once_and_parts_disjoint(stream, made_up):
    ids = [whole(stream, part).source_id_B for part in PARTS]
    together = np.concatenate(ids)
    assert len(together) == len(set(together.tolist())) == len(made_up.source_id) - 1
    assert set(together.tolist()) == set(made_up.source_id.tolist()) - {int(made_up.source_id[7])}


def test_values_are_those_of_the_store(stream, made_up):
    stars = StarBlock.concatenate([whole(stream, part) for part in PARTS])
    order = np.searchsorted(made_up.source_id, stars.source_id_B)
    names = stream.features.band_names
    assert names == ["gaia_g", "phot_u", "phot_z"]
    np.testing.assert_array_equal(stars.mag_BM[:, 0], made_up.g[order])
    np.testing.assert_array_equal(stars.mag_BM[:, 1], made_up.u[order])  # NaN where unmatched or flagged bad
    assert np.isnan(stars.mag_err_BM[:, 0]).all()  # Gaia's error is unknown here, and stays so
    has_xp = np.isfinite(stars.xp_BK).all(axis=1)
    np.testing.assert_array_equal(has_xp, order % 4 == 0)
    np.testing.assert_allclose(stars.xp_BK[has_xp, 55:], 2 * stars.xp_BK[has_xp, :55], rtol=1e-6)
    labelled = np.isfinite(stars.label_BL[:, 0])
    np.testing.assert_array_equal(labelled, order % 5 == 0)
    np.testing.assert_allclose(stars.label_BL[labelled, 0], -0.8)  # the repeat with the best snr


def test_an_object_that_stars_share_is_not_learned_from(made_up):
    """An archive's match with mates stays in the store; the stream shows these stars without the survey's bands."""
    shared = [int(s) for s in made_up.source_id[:30:6]]  # every one of them has u
    with connect(made_up.dsn) as conn:
        conn.execute("UPDATE matched.phot_made_up SET n_mates = 1 WHERE source_id = ANY(%s)", [shared])
        assert conn.execute(
            "SELECT count(phot_u), min(shared) FROM matched.stars WHERE source_id = ANY(%s)", [shared]
        ).fetchone() == (5, 0b110)  # bits of u and z
        features = star_features(conn, registered_specs(conn))
        split_id = make_split(conn, "gaia_made_up", seed=3)
    pack_blocks(made_up.dsn, 2, features, split_id, seed=3)
    stars = StarBlock.concatenate([whole(StarStream(made_up.dsn, 2, features), part) for part in PARTS])
    hidden = np.isin(stars.source_id_B, shared)
    assert hidden.sum() == 5 and np.isnan(stars.mag_BM[hidden][:, 1:]).all()
    assert np.isfinite(stars.mag_BM[hidden][:, 0]).all()
    u = made_up.u[np.searchsorted(made_up.source_id, stars.source_id_B)]
    np.testing.assert_array_equal(stars.mag_BM[~hidden, 1], u[~hidden])


def test_blocks_say_what_they_hold(stream, made_up):
    with connect(made_up.dsn) as conn:
        comments = conn.execute(
            "SELECT col_description(attrelid, attnum) FROM pg_attribute "
            "WHERE attrelid = 'learned.blocks_1'::regclass AND attnum > 0"
        ).fetchall()
    assert len(comments) == 4 and all(" unit=- ucd=" in comment for (comment,) in comments)


def test_order_is_a_function_of_seed_and_epoch(stream):
    first, again = whole(stream, "train", 0, 5), whole(stream, "train", 0, 5)
    np.testing.assert_array_equal(first.source_id_B, again.source_id_B)
    assert not np.array_equal(first.source_id_B, whole(stream, "train", 1, 5).source_id_B)
    assert not np.array_equal(first.source_id_B, whole(stream, "train", 0, 6).source_id_B)
    assert (np.diff(first.source_id_B) < 0).any()


def test_ingest_meanwhile_changes_nothing(stream, made_up):
    before = whole(stream, "train").source_id_B
    with connect(made_up.dsn) as conn:
        conn.execute("DELETE FROM survey.gaia_made_up")
    np.testing.assert_array_equal(before, whole(stream, "train").source_id_B)


def test_small_blocks_shuffle_and_skip(made_up, monkeypatch):
    monkeypatch.setattr("msacat.catalog.stream.stream_stars.STARS_A_BLOCK", 16)
    with connect(made_up.dsn) as conn:
        features = star_features(conn, registered_specs(conn))
        split_id = make_split(conn, "gaia_made_up", seed=3)
    pack_blocks(made_up.dsn, 2, features, split_id, seed=3)
    stream = StarStream(made_up.dsn, 2, features)
    blocks = [b.source_id_B for b in stream.blocks("train", 4, 9)]
    assert len(blocks) > 10 and all(len(b) <= 16 for b in blocks)
    rest = [b.source_id_B for b in stream.blocks("train", 4, 9, skip=7)]
    assert [b.tolist() for b in rest] == [b.tolist() for b in blocks[7:]]
    assert stream.n_stars("train") == sum(map(len, blocks))
    abandoned = stream.blocks("train", 0, 0)
    next(abandoned)
    abandoned.close()  # its reader thread ends; a hang here would be a leak


def test_where_and_its_errors(made_up):
    with connect(made_up.dsn) as conn:
        features = star_features(conn, registered_specs(conn))
        split_id = make_split(conn, "gaia_made_up", seed=3)
    counts = pack_blocks(made_up.dsn, 1, features, split_id, 3, where="phot_u < 22 -- bright")
    assert 0 < sum(counts.values()) <= 200
    for bad in ("gaia_g <", "nothing = 3", "true); DROP TABLE msacat.files; SELECT (true", "1; SELECT 1",
                "gaia_g < 13) OR (gaia_g > 17", "gaia_g < 13] || ARRAY[gaia_g > 17", "gaia_g < 13, true"):  # fmt: skip
        with pytest.raises(UsageError):
            pack_blocks(made_up.dsn, 1, features, split_id, 3, where=bad)
    with pytest.raises(InputRejected, match="too few stars"):
        pack_blocks(made_up.dsn, 1, features, split_id, 3, where="gaia_g > 99")
    with connect(made_up.dsn) as conn:
        assert conn.execute("SELECT count(*) FROM msacat.files").fetchone() == (4,)


def test_a_condition_that_fails_for_a_star(made_up):
    with connect(made_up.dsn) as conn:
        features = star_features(conn, registered_specs(conn))
        split_id = make_split(conn, "gaia_made_up", seed=3)
    with pytest.raises(UsageError, match="--where fails for a star: division by zero"):
        pack_blocks(made_up.dsn, 1, features, split_id, 3, where="1 / (gaia_g - gaia_g) > 0")


def test_split_is_by_cell_and_does_not_move(made_up):
    with connect(made_up.dsn) as conn:
        split_id = make_split(conn, "gaia_made_up", seed=3)
        conn.commit()
        rows = dict(
            conn.execute("SELECT cell, part FROM msacat.splits WHERE split_id = %s", [split_id]).fetchall()
        )
        assert len(rows) == 80  # level 5: 80 occupied cells are enough
        assert rows == {cell: part_of(3, 5, cell) for cell in range(80)}
        conn.execute("DELETE FROM survey.gaia_made_up WHERE source_id / (2^49)::bigint > 20")
        assert make_split(conn, "gaia_made_up", seed=3) == split_id
        fewer = make_split(conn, "gaia_made_up", seed=4)  # now only 21 cells of level 5: a finer level
        level = conn.execute("SELECT level FROM msacat.split_sets WHERE split_id = %s", [fewer]).fetchone()[0]
        assert level == 6
    shares = [part_of(0, 5, cell) for cell in range(12288)]
    assert abs(shares.count("train") / 12288 - 0.7) < 0.02 and abs(shares.count("test") / 12288 - 0.2) < 0.02


def test_own_split(made_up, tmp_path):
    path = tmp_path / "split.csv"
    parts = ["train", "calibrate", "test"]
    lines = [f"{s},{parts[i % 3]}" for i, s in enumerate(made_up.source_id)]
    path.write_text("source_id,part\n" + "\n".join(lines) + "\n")
    with connect(made_up.dsn) as conn:
        features = star_features(conn, registered_specs(conn))
        split_id = load_split(conn, path)
        conn.commit()
        assert load_split(conn, path) == split_id
    pack_blocks(made_up.dsn, 1, features, split_id, 3)
    ids = whole(StarStream(made_up.dsn, 1, features), "test").source_id_B
    assert set(ids.tolist()) == set(made_up.source_id[2::3].tolist())
    path.write_text("source_id,part\n12,neither\n")
    with connect(made_up.dsn) as conn, pytest.raises(InputRejected, match="row 1"):
        load_split(conn, path)


@pytest.mark.parametrize("own", [False, True])
def test_two_trainings_that_make_the_same_split_at_once_share_it(made_up, tmp_path, own):
    path = tmp_path / "split.csv"
    path.write_text("source_id,part\n" + "".join(f"{s},train\n" for s in made_up.source_id))

    def make(conn) -> int:
        return load_split(conn, path) if own else make_split(conn, "gaia_made_up", seed=3)

    def second() -> int:
        with connect(made_up.dsn) as conn:
            return make(conn)

    with ThreadPoolExecutor(1) as pool:
        with connect(made_up.dsn) as first, psycopg.connect(made_up.dsn, autocommit=True) as observer:
            split_id = make(first)
            other = pool.submit(second)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            while observer.execute(waiting).fetchone() == (0,):
                assert not other.done()
                time.sleep(0.02)
        assert other.result() == split_id


def test_block_bytes_round_trip(stream):
    block = whole(stream, "train")
    back = decode_block(encode_block(block), len(block), stream.features)
    for name in vars(block):
        np.testing.assert_array_equal(getattr(block, name), getattr(back, name))
