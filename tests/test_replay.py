"""What the compiler emits is what is recorded: a change of it is looked at, and recorded on purpose."""

from __future__ import annotations

import pytest

from benchmarks import replay


@pytest.mark.parametrize("target", ["cortex-m4", "onnx", "tflite", "nir-graded"])
def test_emitted_files_are_as_recorded(target: str) -> None:
    found = replay.digest(replay.emitted("CfC, pure", target))
    assert found == replay.recorded()["CfC, pure"][target], "python -m benchmarks.replay tells what else differs"


def test_every_row_is_recorded_on_every_target() -> None:
    assert sorted((name, target) for name, row in replay.recorded().items() for target in row) == sorted(replay.PAIRS)


def test_a_changed_byte_a_renamed_and_a_lost_file_change_the_hash() -> None:
    files = {"a.c": b"int a;", "b.h": b"int b;"}
    others = ({**files, "a.c": b"int c;"}, {"a.h": b"int a;", "b.h": b"int b;"}, {"a.c": b"int a;"})
    assert len({replay.digest(files), *map(replay.digest, others)}) == 4
