"""What a SQLite file from elsewhere may contain."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from fedlearn.data.formats.format_error import FormatError


def check_tables(
    connection: sqlite3.Connection, path: Path, needed: Mapping[str, set[str]]
) -> None:
    """Raises unless the file has these tables, with these columns.

    Views and virtual tables are refused, and so are computed columns: what
    they hold is a program of the file's author, which may run for ever.

    Args:
        connection: To the file.
        path: Named in messages.
        needed: Names of columns, by table.

    Raises:
        FormatError: That lists what is there.

    Example:

    >>> connection = sqlite3.connect(":memory:")
    >>> _ = connection.execute("CREATE TABLE shops (name, size)")
    >>> check_tables(connection, Path("a.db"), {"shops": {"name"}})
    >>> check_tables(connection, Path("a.db"), {"shops": {"city"}})
    Traceback (most recent call last):
    ...
    fedlearn.data.formats.format_error.FormatError: a.db: table 'shops' has no
    column 'city'; it has 'name', 'size'.
    """
    for table, names in needed.items():
        found = connection.execute(
            "SELECT type, rootpage FROM sqlite_master "
            "WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')",
            (table,),
        ).fetchone()
        if found is None:
            raise FormatError(
                f"{path} has no table {table!r}. Expected the tables "
                f"{' and '.join(map(repr, needed))}."
            )
        # Only a table that is stored has a first page.
        if found[0] != "table" or not found[1]:
            raise FormatError(
                f"{path}: {table!r} is a view or a virtual table, which is "
                "not read. Expected a table that holds the data."
            )
        # Not listed: columns that are computed.
        rows = connection.execute(f"PRAGMA table_info({table})").fetchall()
        columns = {row[1] for row in rows}
        if names - columns:
            raise FormatError(
                f"{path}: table {table!r} has no column "
                f"{', '.join(map(repr, sorted(names - columns)))}; it has "
                f"{', '.join(map(repr, sorted(columns)))}."
            )
