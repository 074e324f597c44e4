"""Rows come back as they were written, and reading does not stop the writing."""

import numpy as np
import pytest

from multibodies_jax.tracking import spool

ROW = np.dtype([("frame", "i8"), ("value", "f4", (2, 3))])


def _row(k):
    row = np.zeros((), ROW)
    row["frame"], row["value"] = k, k + np.arange(6).reshape(2, 3)
    return row


def test_rows_come_back_in_order_while_more_are_written(tmp_path):
    rows = spool.Spool(ROW, tmp_path)
    assert len(rows) == 0 and len(rows.rows()) == 0
    for k in range(5):
        rows.append(_row(k))
        assert len(rows) == k + 1
        found = rows.rows()
        assert found["frame"].tolist() == list(range(k + 1))
        np.testing.assert_array_equal(found[k]["value"], _row(k)["value"])
    assert isinstance(rows.rows(), np.memmap) and not rows.rows().flags.writeable
    assert not list(tmp_path.iterdir())  # Nothing is left, whatever happens to the process.


@pytest.mark.parametrize("wrong", [np.zeros((), "f4"), np.zeros(2, ROW)])
def test_another_row_is_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="A row of this spool is one"):
        spool.Spool(ROW, tmp_path).append(wrong)
