"""The content of frames as one hash, the same whatever file format they rest in."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TIME", "content_hash"]

TIME: Final = "datetime64[us, UTC]"
"""Dtype of every time in a frame."""


def content_hash(frames: Iterable[tuple[str, pd.DataFrame]]) -> str:
    """SHA-256 over the content of named frames, whatever file format they rest in.

    Each column adds its name, its kind and its little-endian values; NaN has one bit pattern;
    text is UTF-8 with its length. The order of rows and columns counts.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for title, frame in frames:
        digest.update(f"frame {title} {len(frame)}\n".encode())
        for name in frame.columns:
            kind, payload = _column_bytes(frame[name])
            digest.update(f"column {name} {kind}\n".encode())
            digest.update(payload)
    return digest.hexdigest()


def _column_bytes(column: pd.Series) -> tuple[str, bytes]:
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return "time", column.astype(TIME).astype("int64").to_numpy().astype("<i8").tobytes()
    if pd.api.types.is_bool_dtype(column.dtype):
        return "bool", column.to_numpy(dtype="u1").tobytes()
    if pd.api.types.is_integer_dtype(column.dtype):
        return "int", column.to_numpy(dtype="<i8").tobytes()
    if pd.api.types.is_float_dtype(column.dtype):
        values = column.to_numpy(dtype="<f8", copy=True)
        values[np.isnan(values)] = np.nan
        return "float", (values + 0.0).tobytes()
    texts = ["" if pd.isna(value) else str(value) for value in column]
    return "text", b"".join(f"{len(text.encode())}:{text}".encode() for text in texts)
