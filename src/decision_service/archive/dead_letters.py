"""Dead letters: the entries and frames that could not be read when they were archived, found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from decision_service.api.instants import format_instant
from decision_service.archive.files import Archive
from decision_service.archive.segments import Segment, place_name

UNREADABLE: Final = "unreadable"
_COLUMNS: Final = ("partition", "position", "at_ms", "kind", "decision_id", "body")


def dead_letters(
    archive: Archive,
    since_ms: int | None,
    until_ms: int | None,
    *,
    raw: bool,
    tell: Callable[[int], None] = lambda _files: None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """The unreadable rows written between two instants, place by place. ArchiveUnavailable."""
    for n, segment in enumerate(archive.segments(since_ms, until_ms), 1):
        tell(n)
        for row in _unreadable(archive, segment, (*_COLUMNS, "raw") if raw else _COLUMNS):
            if (since_ms is None or row["at_ms"] >= since_ms) and (until_ms is None or row["at_ms"] < until_ms):
                yield _told(row)


def _unreadable(archive: Archive, segment: Segment, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    """Those of a segment. No kind comes behind `unreadable`, so a file's statistics say whether it has any."""
    import pyarrow.compute as pc

    with archive.open(segment) as file:
        at = file.schema_arrow.get_field_index("kind")
        groups = [
            group
            for group in range(file.metadata.num_row_groups)
            if (told := file.metadata.row_group(group).column(at).statistics) is None or told.max == UNREADABLE
        ]
        if not groups:
            return []
        table = file.read_row_groups(groups, columns=list(columns))
    rows: list[dict[str, Any]] = table.filter(pc.equal(table["kind"], UNREADABLE)).to_pylist()
    return rows


def _told(row: dict[str, Any]) -> dict[str, Any]:
    body = orjson.loads(row["body"] or "{}")
    told = {
        "place": place_name(row["partition"]), "position": row["position"], "at": format_instant(row["at_ms"]),
        "decision_id": row["decision_id"], "why": body.get("why", ""),
    }  # fmt: skip
    return told | ({"raw": orjson.loads(row["raw"] or "null")} if "raw" in row else {})
