"""The file compiled for Arm Ethos-U by Vela."""

from __future__ import annotations

import pytest

from ncpc.errors import Unsupported
from ncpc.targets.tflite import npu
from tests.conftest import RequireTool
from tests.nets import random_policy
from tests.tflite.conftest import Emit

SUMMARY = ("experiment,system_config,memory_mode,core_clock,inference_time,sram_memory_used,dram_memory_used,"
           "on_chip_flash_memory_used,off_chip_flash_memory_used,cycles_total\n"
           "default,Board,Shared_Sram,5e8,1e-05,0.5,0,0,2.75,5000\n")


@pytest.mark.slow
@pytest.mark.parametrize("unit", npu.CHOICES[1:])
def test_int16_maps_wholly_to_the_npu(emit: Emit, require_tool: RequireTool, unit: str) -> None:
    require_tool("ethosu")
    made = emit(random_policy(0), "int16", npu=unit)
    built = made.artifact.build(made.folder)
    found = built.extra["npu"]
    assert built.files == (f"net_{unit}.tflite",)
    assert b"ethos-u" in (made.folder / built.files[0]).read_bytes()
    assert found["accelerator"] == unit
    assert found["operators"]["cpu"] == 0
    assert found["operators"]["npu"] > 50
    assert found["memory_bytes"]["sram"] > 0
    assert found["estimate"]["cycles"] > 0
    assert "Vela" in found["estimate"]["by"]
    again = made.artifact.build(made.folder)
    assert again.extra == built.extra


def test_floats_are_refused(emit: Emit) -> None:
    with pytest.raises(Unsupported, match=r"--npu ethos-u55-128: an Ethos-U computes in integers; use --quant int16"):
        emit(random_policy(0), "float32", npu="ethos-u55-128")


def test_without_vela_the_rest_is_there(emit: Emit, monkeypatch: pytest.MonkeyPatch) -> None:
    made = emit(random_policy(0), "int16", npu="ethos-u85-256")
    monkeypatch.setattr(npu, "find_spec", lambda name: None)
    built = made.artifact.build(made.folder)
    assert built.files == ()
    assert "npu" not in built.extra
    assert built.missing == ("ethos-u-vela is not installed, the file was not compiled for the NPU: "
                             "pip install 'ncpc[npu]'",)


def test_velas_summary_is_read() -> None:
    found = npu.facts("ethos-u55-128", "CPU operators = 2 (1.0%)\nNPU operators = 1,140 (99%)\n", SUMMARY, "5.2.0")
    assert found["operators"] == {"npu": 1140, "cpu": 2}
    assert found["memory_bytes"] == {"sram": 512, "dram": 0, "on_chip_flash": 0, "off_chip_flash": 2816}
    assert found["estimate"] == {"by": "Vela 5.2.0's own model, nothing was run", "cycles": 5000,
                                 "inference_seconds": 1e-05, "clock_hz": 5e8}
