"""What a machine computes natively, asked of machines that are not here."""

from pathlib import Path

import pytest
import torch

from lightning_fewshot.precision import native_bfloat16

AVX2 = "processor : 0\nflags\t\t: fpu sse avx avx2 fma\nbugs : bf16\n"


@pytest.mark.parametrize(
    ("cpuinfo", "native"),
    [
        (AVX2, False),
        (AVX2.replace("fma", "fma avx512f avx512_bf16"), True),
        (AVX2.replace("fma", "fma amx_tile amx_bf16"), True),
        ("Features : fp asimd bf16 sve\n", True),
        ("Features : fp asimd sve\n", False),
    ],
)
def test_processors(monkeypatch, cpuinfo, native):
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: cpuinfo)
    assert native_bfloat16("cpu") is native


@pytest.mark.parametrize("native", [True, False])
def test_without_cpuinfo_torch_is_asked(monkeypatch, native):
    def absent(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert native_bfloat16(torch.device("cpu")) is native


@pytest.mark.parametrize(("capability", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_gpus(monkeypatch, capability, native):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert native_bfloat16("cuda") is native
