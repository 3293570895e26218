"""truth.parquet: what the simulated Gaia sources are, noise-free, one row a source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from msacat.catalog.simulated_sky.publish_gaia import GaiaChunk
from msacat.catalog.simulated_sky.sky_objects import SkyObjects

#: Truth's column of each survey's id of the Gaia source, and its type.
ID_COLUMN: dict[str, tuple[str, pa.DataType]] = {
    "sdss_dr13": ("sdss_id", pa.int64()),
    "skymapper_dr2": ("skymapper_id", pa.int64()),
    "panstarrs1": ("ps1_id", pa.int64()),
    "twomass_psc": ("twomass_id", pa.string()),
    "catwise2020": ("catwise_id", pa.string()),
}
_QUANTITIES = ("teff", "logg", "fe_h", "alpha", "a_v", "r_v", "distance_kpc", "amplitude")


def truth_schema(names: list[str]) -> pa.Schema:
    fields = [pa.field("source_id", pa.int64()), pa.field("class", pa.string())]
    fields += [pa.field("giant", pa.bool_()), pa.field("binary", pa.bool_())]
    fields += [pa.field(name, pa.float32()) for name in names]
    fields += [pa.field(f"{half}_coefficients", pa.list_(pa.float32())) for half in ("bp", "rp")]
    fields += [pa.field(q, pa.float32()) for q in _QUANTITIES]
    fields += [pa.field(name, kind) for name, kind in ID_COLUMN.values()]
    fields += [pa.field(f"repeat_{name}", kind) for name, kind in ID_COLUMN.values()]
    return pa.schema(fields)


class TruthFile:
    """Written chunk by chunk."""

    def __init__(self, path: Path, names: list[str]):
        self.schema = truth_schema(names)
        self.names = names
        self.writer = pq.ParquetWriter(path, self.schema, compression="zstd")

    def add(
        self,
        objects: SkyObjects,
        gaia: GaiaChunk,
        ids: dict[str, dict[int, object]],
        repeat_ids: dict[str, dict[int, object]],
    ) -> int:
        """ids, repeat_ids: per dataset, object index -> the survey's id of its (second) row."""
        i = gaia.object
        columns: list[pa.Array] = [
            pa.array(objects.source_id[i]),
            pa.array(objects.kind[i].tolist(), pa.string()),
            pa.array(objects.giant[i]),
            pa.array(objects.binary[i]),
        ]
        columns += [pa.array(objects.mag[i, k].astype(np.float32)) for k in range(len(self.names))]
        for part in (slice(0, 55), slice(55, 110)):
            flat = pa.array(np.ascontiguousarray(objects.xp[i, part]).reshape(-1))
            columns.append(
                pa.ListArray.from_arrays(pa.array(np.arange(0, 55 * len(i) + 1, 55), pa.int32()), flat)
            )
        for quantity in _QUANTITIES:
            columns.append(pa.array(getattr(objects, quantity)[i].astype(np.float32), from_pandas=True))
        for of_dataset in (ids, repeat_ids):
            for dataset, (_, kind) in ID_COLUMN.items():
                columns.append(pa.array([of_dataset[dataset].get(k) for k in i.tolist()], kind))
        self.writer.write_table(pa.Table.from_arrays(columns, schema=self.schema))
        return len(i)

    def close(self) -> None:
        self.writer.close()
