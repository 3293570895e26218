"""The YAML header of an ECSV file (astropy's APE 6): separator, units, and the source_id of DataLink products."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from msacat.catalog.errors import InputRejected


@dataclass
class EcsvHeader:
    delimiter: str = " "
    units: dict[str, str] = field(default_factory=dict)
    source_id: int | None = None


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe YAML that reads tagged nodes (astropy's !Unit, !SkyCoord) as plain data instead of objects."""


def _untagged(loader: Any, suffix: str, node: Any) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


_Loader.add_multi_constructor("!", _untagged)
_Loader.add_multi_constructor("tag:yaml.org,2002:python/", _untagged)


def read_ecsv_header(comments: list[str], path: Path) -> EcsvHeader:
    """Parse the `# ` lines of an ECSV file. Raises InputRejected where they are no valid header."""
    header, units = _parse("\n".join(line[2:] for line in comments[1:] if line.startswith("# ")), path)
    delimiter = header.get("delimiter", " ")
    if delimiter not in (" ", ","):
        raise InputRejected(
            "the ECSV header names an unknown delimiter",
            file=str(path),
            expected="' ' or ','",
            found=repr(delimiter),
            next_step="write the file again with astropy",
        )
    source_id = next((value for key, value in _entries(header.get("meta")) if key == "source_id"), None)
    return EcsvHeader(delimiter, units, source_id if isinstance(source_id, int) else None)


def units_in_yaml(text: str, path: Path) -> dict[str, str]:
    """Units by column from the same YAML where astropy puts it into a Parquet file."""
    return _parse(text, path)[1]


def _parse(text: str, path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        header = yaml.load(text, Loader=_Loader)
        units = {
            str(c["name"]): _unit_text(c["unit"]) for c in header["datatype"] if c.get("unit") is not None
        }
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputRejected(
            "the ECSV header cannot be read",
            file=str(path),
            expected="YAML with a `datatype` list of named columns",
            found=" ".join(str(error).split())[:80],
            next_step="compare the file's checksum with the publisher's list, download it again",
        ) from None
    return header, units


def _unit_text(unit: Any) -> str:
    return str(unit.get("unit", unit)) if isinstance(unit, dict) else str(unit)


def _entries(meta: Any) -> Iterator[tuple[Any, Any]]:
    """Key-value pairs of a header's `meta`, which is a mapping or an ordered list of mappings (!!omap)."""
    if isinstance(meta, dict):
        yield from meta.items()
    elif isinstance(meta, list):
        for item in meta:
            if isinstance(item, dict):
                yield from item.items()
            elif isinstance(item, tuple) and len(item) == 2:
                yield item
