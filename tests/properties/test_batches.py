"""Sample batches come back from their bytes to the last bit, and junk is refused."""

from __future__ import annotations

import io
import os

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from connectors.eventlog import batches as batches_module
from connectors.eventlog.batches import decode_batch, decode_columns, encode_batch, encode_columns
from schemas.errors import CodecError
from schemas.samples import SAMPLE_DTYPES, Kept, SampleBatch
from tests.eventlog_support import batch, same_input

os.environ.setdefault("RUST_BACKTRACE", "0")


@st.composite
def batches(draw: st.DrawFn) -> SampleBatch:
    n = draw(st.integers(0, 20))
    columns = {name: draw(hnp.arrays(dtype, n)) for name, dtype in SAMPLE_DTYPES.items()}
    whole = st.integers(0, 2**64 - 1)
    return SampleBatch(draw(st.text(max_size=20).filter(str.isprintable)), draw(whole), draw(whole), **columns)


@given(batches())
@settings(max_examples=300, deadline=None)
def test_a_batch_comes_back_bit_for_bit_with_its_dtypes(sent: SampleBatch) -> None:
    got = decode_batch(encode_batch(sent))
    assert same_input(Kept(1, 1, got), Kept(1, 1, sent))
    alone = decode_columns(encode_columns(sent), source=sent.source, epoch=sent.epoch, seq=sent.seq)
    assert same_input(Kept(1, 1, alone), Kept(1, 1, sent))


@pytest.mark.parametrize("compression", ["uncompressed", "zstd", "lz4"])
def test_a_second_batch_of_the_same_length_is_read_as_the_first_whoever_wrote_it(compression) -> None:
    for seed in (1, 2):
        sent = batch(seed)
        stream, columns = io.BytesIO(), {name: getattr(sent, name) for name in SAMPLE_DTYPES}
        pl.DataFrame(columns).write_ipc_stream(stream, compression=compression)
        got = decode_columns(stream.getvalue(), source=sent.source, epoch=sent.epoch, seq=sent.seq)
        assert same_input(Kept(1, 1, got), Kept(1, 1, sent))


def test_lengths_beyond_those_that_are_remembered_are_read_all_the_same(monkeypatch) -> None:
    monkeypatch.setattr(batches_module, "KNOWN_MAX", 3)
    monkeypatch.setattr(batches_module, "_KNOWN", {})
    for n in (*range(1, 9), *range(1, 9)):
        zeros = {name: np.arange(n).astype(dtype) for name, dtype in SAMPLE_DTYPES.items()}
        sent = SampleBatch("s", 0, 0, **zeros)
        assert same_input(Kept(1, 1, decode_batch(encode_batch(sent))), Kept(1, 1, sent))
    assert len(batches_module._KNOWN) <= 3


def test_every_nan_keeps_its_bits() -> None:
    bits = np.array([0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001], dtype=np.uint64)
    zeros = {name: np.zeros(3, dtype) for name, dtype in SAMPLE_DTYPES.items()}
    sent = SampleBatch("s", 0, 0, **(zeros | {"value": bits.view(np.float64)}))
    assert decode_batch(encode_batch(sent)).value.tobytes() == bits.tobytes()


def test_a_column_of_another_dtype_is_not_encoded() -> None:
    zeros = {name: np.zeros(3, dtype) for name, dtype in SAMPLE_DTYPES.items()}
    with pytest.raises(ValueError, match="column 'value' is float32, not float64"):
        encode_batch(SampleBatch("s", 0, 0, **(zeros | {"value": np.zeros(3, np.float32)})))


def test_a_cut_batch_is_refused_unless_only_padding_is_missing() -> None:
    sent = batch(1)
    whole = encode_batch(sent)
    refused_n = 0
    for end in range(len(whole)):
        try:
            got = decode_batch(whole[:end])
        except CodecError:
            refused_n += 1
            continue
        assert same_input(Kept(1, 1, got), Kept(1, 1, sent))
    assert refused_n > len(whole) - 64 - 8  # Arrow pads its last column to 64 bytes and ends with 8.


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pl.DataFrame({"tag": [1]}), "the columns of a sample batch are"),
        (
            pl.DataFrame({name: [None] for name in SAMPLE_DTYPES}).cast(
                {
                    "tag": pl.UInt32,
                    "source_at": pl.Int64,
                    "server_at": pl.Int64,
                    "value": pl.Float64,
                    "status": pl.UInt32,
                }
            ),
            "has 1 nulls",
        ),
    ],
)
def test_other_columns_and_nulls_are_refused(frame: pl.DataFrame, message: str) -> None:
    stream = io.BytesIO()
    frame.write_ipc_stream(stream)
    with pytest.raises(CodecError, match=message):
        decode_columns(stream.getvalue(), source="s", epoch=0, seq=0)
