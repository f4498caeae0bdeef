"""The databases this library has open in this process."""

from __future__ import annotations


def close_databases() -> None:
    """Close the files this process keeps open for its next runs, so that no sample closes those of another."""
    from dotflow_like.record import sqlite

    sqlite._close_all()
