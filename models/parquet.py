"""Parquet files in parts, with facts about the table as JSON in the metadata of the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

METADATA = b"jetbalance"


def write_parts(parts: Iterable[Any], path: Path, facts: Mapping[str, Any]) -> int:
    """Write Arrow tables with the same columns into one file, and return the rows; it appears when it is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    unfinished = path.with_name(f"{path.name}.part")
    writer, n_rows = None, 0
    for rows in parts:
        if writer is None:
            schema = rows.schema.with_metadata({METADATA: json.dumps(facts).encode()})
            writer = pq.ParquetWriter(unfinished, schema, compression="zstd")
        writer.write_table(pa.table(rows.columns, schema=schema))
        n_rows += len(rows)
    if writer is None:
        raise ValueError("no rows to write")
    writer.close()
    unfinished.replace(path)
    return n_rows


def read_rows(path: str | Path, is_wanted: Callable[[str], bool], origin: str) -> tuple[Any, dict[str, Any] | None]:
    """The wanted columns as one Arrow table, and the facts in the file, None if it has none of ours.

    `origin` tells what makes such a file.

    Raises
    ------
    ValueError
        Where the file is no parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise FileNotFoundError(f"the training table {path} does not exist; make one with {origin}")
    try:
        wanted = [name for name in pq.read_schema(path).names if is_wanted(name)]
        rows = pq.read_table(path, columns=wanted)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a parquet file: {str(error).splitlines()[0]}") from error
    metadata = (rows.schema.metadata or {}).get(METADATA)
    return rows, None if metadata is None else json.loads(metadata)
