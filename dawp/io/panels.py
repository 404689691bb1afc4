"""Read panels: CSV files with one recording, and its own settings, in each row."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dawp.errors import BadInput, ErrorCode, printable
from dawp.io.files import safe_name
from dawp.io.sources import find_listed, read_list_text, unread_reason

FILE, PANEL, OUT = "file", "panel", "out"  # columns that are not settings
MAX_PART_BYTES = 200  # of a folder or file name; temporary names are longer
FIRST_LINE_BYTES = 1 << 16


@dataclass(frozen=True)
class PanelRow:
    """A row of a panel.

    Attributes:
        line: its number in the file.
        where: file and line, for messages.
        file: the recording as written.
        path: the recording.
        panel: folder of the output in the output folder.
        out: file or folder of the output in it; empty if the row names none.
        settings: texts of the settings of the row, by name.
    """

    line: int
    where: str
    file: str
    path: Path
    panel: str
    out: str
    settings: dict[str, str]


@dataclass(frozen=True)
class Panel:
    """A panel.

    Attributes:
        path: the CSV file.
        header: file and line of the names of the columns, for messages.
        columns: names of the settings.
        rows: in order.
    """

    path: Path
    header: str
    columns: list[str]
    rows: list[PanelRow]

    @property
    def results(self) -> str:
        """The name of the CSV file of the results."""
        return f"{safe_name(self.path.stem, longest=100)}_results.csv"


def is_panel(source: Path | None) -> bool:
    """Return whether a source is a CSV file whose first line names the column ``file``."""
    if source is None or source.suffix.lower() != ".csv" or not source.is_file():
        return False
    try:
        with source.open("rb") as file:
            first = file.readline(FIRST_LINE_BYTES).decode("utf-8-sig", errors="replace").strip()
        columns = next(csv.reader([first], skipinitialspace=True), [])
    except (OSError, csv.Error):
        return False
    return FILE in map(str.strip, columns) and find_listed(first, source.parent) is None


def read_panel(source: Path) -> Panel:
    """Read the rows of a panel.

    The first line names the columns: ``file``, optionally ``panel`` and ``out``, and settings by the names of their
    flags. An empty cell leaves a setting unchanged. Blank lines are ignored. Files are found as those of a list.

    Raises:
        BadInput: the file is not such a CSV file, or a row names a missing file or a place outside the output folder.
    """
    reader = csv.reader(io.StringIO(read_list_text(source), newline=""), skipinitialspace=True, strict=True)
    header, columns = "", list[str]()
    rows: list[PanelRow] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            where = f"{printable(source)} line {reader.line_num}"
            if not any(cells):
                continue
            if not columns:
                header, columns = where, _check_columns(cells, where)
                continue
            if len(cells) != len(columns):
                raise _invalid(f"{where}: must have {len(columns)} cells, one for each column, got {len(cells)}")
            named = {column: cell for column, cell in zip(columns, cells, strict=True) if cell}
            rows.append(_read_row(named, source, reader.line_num, where))
    except csv.Error as error:
        raise _invalid(f"{printable(source)} line {reader.line_num}: must be a row of a CSV file ({error})") from None
    if not rows:
        raise _invalid(f"{printable(source)}: the panel has no rows")
    return Panel(source, header, [name for name in columns if name not in (FILE, PANEL, OUT)], rows)


def _check_columns(columns: list[str], where: str) -> list[str]:
    """Check the names of the columns, and return them."""
    for name, count in Counter(columns).items():
        if not name.isidentifier():
            raise _invalid(
                f"{where}: a column must be {FILE}, {PANEL}, {OUT} or a setting, got {printable(name) or 'none'}"
            )
        if count > 1:
            raise _invalid(f"{where}: must name each column once, got {name} {count} times")
    return columns


def _read_row(cells: dict[str, str], source: Path, line: int, where: str) -> PanelRow:
    file = cells.pop(FILE, "")
    if not file or not file.isprintable():
        raise _invalid(f"{where}: {FILE} must be the name of a file, got {printable(file) or 'none'}")
    path = find_listed(file, source.parent)
    if path is None:
        raise _invalid(f"{where}: no such file: {printable(file)}", "not_found")
    if reason := unread_reason(path):
        raise _invalid(f"{where}: {printable(file)}: {reason}", "unreadable_input")
    panel = _check_place(cells.pop(PANEL, safe_name(source.stem)), PANEL, where)
    out = cells.pop(OUT, "")
    return PanelRow(line, where, file, path, panel, out and _check_place(out, OUT, where), cells)


def _check_place(place: str, column: str, where: str) -> str:
    """Check that a place lies below its folder, and is not hidden."""
    parts = place.split("/")
    is_valid = place.isprintable() and not any(
        part.startswith(".") or part != part.strip() or not part or "\\" in part for part in parts
    )
    if not is_valid or ":" in parts[0] or max(len(part.encode(errors="replace")) for part in parts) > MAX_PART_BYTES:
        raise _invalid(
            f"{where}: {column} must be a path below the output folder, without hidden or empty parts, "
            f"got {printable(place)}"
        )
    return place


def _invalid(message: str, code: ErrorCode = "invalid_list") -> BadInput:
    return BadInput(message, code=code)
