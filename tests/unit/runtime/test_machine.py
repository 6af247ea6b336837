"""What measurements of a machine depend on."""

import pytest

from service.runtime.machine import processor_of

X86 = """processor\t: 0
model name\t: AMD EPYC
flags\t\t: fpu tsc smep sse2 avx2 avx512f avx512_vnni avx512_bf16 rdrand
bogomips\t: 5000

processor\t: 1
model name\t: AMD EPYC
flags\t\t: fpu
"""
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd sve bf16 i8mm crc32\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (X86, "AMD EPYC avx2 avx512_bf16 avx512_vnni avx512f sse2"),
        (ARM, "asimd bf16 i8mm sve"),
        ("", ""),
        ("model name", ""),
    ],
)
def test_a_processor_is_its_name_and_its_vector_instructions(text: str, wanted: str) -> None:
    assert processor_of(text) == wanted


def test_a_machine_that_hides_instructions_measures_for_itself() -> None:
    assert processor_of(X86.replace("avx512_bf16", "")) != processor_of(X86)
    assert processor_of(X86.replace("tsc", "")) == processor_of(X86)
