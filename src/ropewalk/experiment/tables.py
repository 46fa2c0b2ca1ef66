"""The tables of a run's database as this version writes them, and how values are spelled in them."""

from __future__ import annotations

import json
from typing import Any

VERSION = 2
CELLS = """
CREATE TABLE cells (
    label TEXT NOT NULL, method TEXT NOT NULL, asked TEXT NOT NULL, resolved TEXT NOT NULL, length INTEGER NOT NULL,
    metric TEXT NOT NULL, fingerprint TEXT NOT NULL, value REAL, ci_low REAL, ci_high REAL, n INTEGER NOT NULL,
    status TEXT NOT NULL, reason TEXT, PRIMARY KEY (label, length, metric));
"""
DOCUMENTS = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE documents (
    document INTEGER PRIMARY KEY, id TEXT NOT NULL, title TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    licence TEXT NOT NULL, sha256 TEXT NOT NULL, tokens INTEGER NOT NULL);
"""
WINDOWS = ", cluster TEXT NOT NULL, start INTEGER NOT NULL);"
"""Of which document each row is a window, and from which token on: at the end of the table documents."""
TABLES = f"""{DOCUMENTS[:-3]}{WINDOWS}
CREATE TABLE schemes (fingerprint TEXT PRIMARY KEY, scheme TEXT NOT NULL);
CREATE TABLE workers (
    worker INTEGER PRIMARY KEY, device TEXT NOT NULL, attention TEXT NOT NULL, versions TEXT NOT NULL,
    started_at TEXT NOT NULL);
CREATE TABLE passes (
    fingerprint TEXT NOT NULL, document INTEGER NOT NULL, start INTEGER NOT NULL, bos INTEGER NOT NULL,
    stop INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT, file TEXT, sha256 TEXT, worker INTEGER NOT NULL,
    finished_at TEXT NOT NULL, PRIMARY KEY (fingerprint, document, start, bos, stop));
CREATE TABLE prompts (
    metric TEXT NOT NULL, length INTEGER NOT NULL, place INTEGER NOT NULL, request TEXT NOT NULL, facts TEXT NOT NULL,
    PRIMARY KEY (metric, length, place));
CREATE TABLE answers (
    fingerprint TEXT NOT NULL, request TEXT NOT NULL, status TEXT NOT NULL, reason TEXT, answer TEXT, predicted TEXT,
    nll TEXT, text TEXT, worker INTEGER NOT NULL, finished_at TEXT NOT NULL, PRIMARY KEY (fingerprint, request));
{CELLS}"""
BEFORE_WINDOWS = TABLES.replace(WINDOWS, ");")
"""As runs were made when a document was read from its first token alone."""


def canonical(value: Any) -> str:
    """Canonical JSON, the form that identities are hashes of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
