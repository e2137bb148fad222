"""What damage of the data folder costs a user: the part that is damaged, and nothing else."""

from __future__ import annotations

import requests

from tests.stack import BUCKET, Stack
from tests.unit.storage.test_row_checksums import damage


def test_a_damaged_piece_of_the_dictionary_hides_its_series_and_serves_the_others(own_stack: Stack) -> None:
    stack = own_stack
    for host in "abc":
        assert stack.write(f"cpu,host={host} value={ord(host)} 1000000000", BUCKET).status_code == 204
    stack.stop()
    damage(
        stack.folder / "data",
        "UPDATE dictionary SET piece = zeroblob(length(piece)) WHERE rowid = (SELECT min(rowid) FROM dictionary) + 1",
    )
    stack.start()
    assert stack.rows("SELECT value FROM cpu", BUCKET, epoch="s") == [[1, 97], [1, 99]]
    assert stack.rows("SHOW TAG VALUES FROM cpu WITH KEY = host", BUCKET) == [["host", "a"], ["host", "c"]]
    assert stack.rows("SELECT count(value) FROM cpu", BUCKET) == [["1970-01-01T00:00:00Z", 2]]
    metrics = requests.get(f"http://127.0.0.1:{stack.storage_port}/metrics", timeout=5).text
    assert "tidegate_storage_damages 1.0" in metrics
    assert "series 1 to 1 of measurement 'cpu'" in stack.log_path.read_text()
