"""The precision in which a recipe's network computes, during and after training."""

import pytest

from fashion_mnist.model import network, recipes

X86 = "flags\t\t: fpu sse2 avx2 avx512f{more} xsave\n"


@pytest.mark.parametrize(
    ("cpuinfo", "has"),
    [
        (X86.format(more=""), False),
        (X86.format(more=" avx512_bf16"), True),
        (X86.format(more=" amx_bf16"), True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("Features\t: fp asimd i8mm\n", False),
        (None, False),
    ],
)
def test_bfloat16_requires_processor_support(tmp_path, cpuinfo, has):
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert network.has_bfloat16(tmp_path / "cpuinfo") is has


def computed_policies(recipe, **options):
    model = network.build(recipes.RECIPES[recipe], 1, **options)
    return {layer.dtype_policy.name for layer in model.layers}


def test_saved_model_computes_in_float32():
    assert computed_policies("fast") == {"float32"}


def test_training_uses_the_fastest_precision():
    expected = "mixed_bfloat16" if network.has_bfloat16() else "float32"
    assert computed_policies("fast", trains=True) == {expected, "float32"}
    assert computed_policies("quick", trains=True) == {"float32"}
