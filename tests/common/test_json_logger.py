"""Tests for json_logger.py."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.common.json_logger import JsonLogger, read_json_log
from tests.refusals import full_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs.json.txt"


def write_steps(path: Path, steps: list[int]) -> None:
    with JsonLogger(path) as logger:
        for step in steps:
            logger.log({"global_step": step, "train_loss": step / 10})


def test_round_trip(path):
    records = [{"global_step": 0, "train_loss": 0.5}, {"global_step": 1, "val_loss": 0.25}]
    with JsonLogger(path) as logger:
        for record in records:
            logger.log(record)
    assert read_json_log(path) == records


def test_one_compact_object_per_line(path):
    with JsonLogger(path) as logger:
        logger.log({"global_step": 3, "train_loss": 0.5})
    assert path.read_text() == '{"global_step": 3, "train_loss": 0.5}\n'


def test_keeps_numbers_only_and_their_kind(path):
    with JsonLogger(path) as logger:
        logger.log(
            {
                "int64": np.int64(2),
                "float32": np.float32(0.5),
                "bool": np.bool_(True),
                "tensor": torch.tensor(0.25),
                "array": np.array(3),
                "video": "media/1.mp4",
                "vector": np.zeros(2),
                "complex": 1j,
                "nothing": None,
            }
        )
    (record,) = read_json_log(path)
    assert record == {"int64": 2, "float32": 0.5, "bool": 1, "tensor": 0.25, "array": 3}
    assert {key: type(value) for key, value in record.items()} == {
        "int64": int,
        "float32": float,
        "bool": int,
        "tensor": float,
        "array": int,
    }


def test_nan_is_written_as_nan(path):
    with JsonLogger(path) as logger:
        logger.log({"loss": math.nan})
    assert path.read_text() == '{"loss": NaN}\n'
    assert math.isnan(read_json_log(path)[0]["loss"])


def test_lines_are_readable_while_the_log_is_open(path):
    with JsonLogger(path) as logger:
        logger.log({"global_step": 0})
        assert read_json_log(path) == [{"global_step": 0}]


def test_reopening_continues(path):
    write_steps(path, [0, 1])
    write_steps(path, [2])
    assert [record["global_step"] for record in read_json_log(path)] == [0, 1, 2]


@given(st.lists(st.integers(0, 10**6), max_size=5), st.integers(0, 200))
def test_a_file_cut_anywhere_keeps_its_whole_lines(tmp_path_factory, steps, cut):
    path = tmp_path_factory.mktemp("log") / "logs.json.txt"
    write_steps(path, steps)
    whole = path.read_bytes()[:cut]
    path.write_bytes(whole)
    n_lines = whole.count(b"\n")
    assert [record["global_step"] for record in read_json_log(path)] == steps[:n_lines]
    with JsonLogger(path) as logger:
        logger.log({"global_step": -1})
    assert [record["global_step"] for record in read_json_log(path)] == [*steps[:n_lines], -1]


def test_last_log(path):
    with JsonLogger(path) as logger:
        assert logger.get_last_log() is None
        logger.log({"global_step": 0})
        logger.log({"global_step": 1})
        assert logger.get_last_log() == {"global_step": 1}


@given(st.integers(0, 8), st.integers(-1, 10))
def test_truncate_after(tmp_path_factory, n_steps, last_step):
    path = tmp_path_factory.mktemp("log") / "logs.json.txt"
    write_steps(path, list(range(n_steps)))
    with JsonLogger(path) as logger:
        logger.truncate_after(last_step)
        logger.log({"global_step": 99})
    kept = [step for step in range(n_steps) if step <= last_step]
    assert [record["global_step"] for record in read_json_log(path)] == [*kept, 99]


def test_truncate_after_cuts_what_was_logged_beside_later_steps(path):
    with JsonLogger(path) as logger:
        for record in ({"epoch": 0}, {"global_step": 1}, {"global_step": 2}, {"epoch": 1}):
            logger.log(record)
        logger.truncate_after(1)
    assert read_json_log(path) == [{"epoch": 0}, {"global_step": 1}]


def test_required_keys_are_keys_not_substrings(path):
    with JsonLogger(path) as logger:
        logger.log({"loss": 1.0})
        logger.log({"val_loss": 2.0})
        logger.log({"score": 3.0})
    assert read_json_log(path, ["loss"]) == [{"loss": 1.0}]
    assert read_json_log(path, ["loss", "score"]) == [{"loss": 1.0}, {"score": 3.0}]


def test_a_string_of_required_keys_is_a_mistake(path):
    with pytest.raises(TypeError, match="'loss'"):
        read_json_log(path, "loss")


def test_a_damaged_line_is_named(path):
    path.write_text('{"a": 1}\n{"a": \n{"a": 2}\n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        read_json_log(path)


def test_a_line_that_is_no_object_is_named(path):
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="line 1 must be a JSON object"):
        read_json_log(path)


def test_close_twice(path):
    logger = JsonLogger(path)
    logger.close()
    logger.close()


def test_a_full_disk_is_named_and_nothing_else_is_lost(path):
    logger = JsonLogger(path)
    logger.log({"global_step": 0})
    with full_disk(50):
        with pytest.raises(OSError, match=r"ile too large: '.*logs\.json\.txt'"):
            logger.log({f"metric {i}": 0.5 for i in range(20)})
        logger.close()
    assert read_json_log(path) == [{"global_step": 0}]
