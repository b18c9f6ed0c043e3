"""Triton's kernels for log-probs against the plain formulas in float64: on a GPU, or in Triton's interpreter on a CPU.

Without a GPU, `nox -s triton` runs them: it installs Triton and sets TRITON_INTERPRET=1. Triton reads that when it is
imported, so a process either interprets or compiles.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear

import plugrad.policy
from plugrad.policy import blocks, score_kernels
from plugrad.policy.logprobs import scores_from_logits, token_scores

INTERPRETS = os.environ.get("TRITON_INTERPRET") == "1"
HAS_TRITON = find_spec("triton") is not None
CUDA = torch.cuda.is_available()

on_a_gpu = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(INTERPRETS or not CUDA or not HAS_TRITON, reason="needs a GPU and Triton")],
)
interpreted = pytest.param(
    "cpu", marks=pytest.mark.skipif(not INTERPRETS or not HAS_TRITON, reason="needs Triton, and TRITON_INTERPRET=1")
)


@pytest.fixture(params=[interpreted, on_a_gpu])
def device(request, monkeypatch):
    """Where the kernels run."""
    monkeypatch.setattr(score_kernels, "DEVICES", {request.param})
    found = torch.device(request.param)
    assert score_kernels.score_kernels(found, torch.float32) is not None
    return found


@pytest.fixture(params=[2**21, 12], ids=["one block", "many blocks"])
def block_elements(request, monkeypatch):
    """Twelve logits at once: three tokens and four entries of the vocabulary, and both leave a remainder."""
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", request.param)
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cuda", request.param)


def problem(device, dtype=torch.float32, trained="hidden weight bias", size=(7, 5, 11), scale=1.0):
    generator = torch.Generator().manual_seed(0)
    tokens, hidden, vocab = size
    shapes = {"hidden": (tokens, hidden), "weight": (vocab, hidden), "bias": (vocab,)}
    tensors = {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    inputs = [tensor.to(device, dtype).requires_grad_(name in trained) for name, tensor in tensors.items()]
    return *inputs, torch.randint(vocab, (tokens,), generator=generator).to(device)


def exact(hidden, weight, bias, targets, *, temperature, entropy, scaling=1.0, softcap=None):
    """Return inputs in float64 and their scores."""
    inputs = [i.detach().double().requires_grad_(i.requires_grad) for i in (hidden, weight, bias)]
    logits = linear(*inputs) * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return inputs, scores_from_logits(logits, targets, temperature=temperature, entropy=entropy)


def gradients(scores, inputs):
    """Return the gradients of a weighted sum of everything that has one."""
    generator = torch.Generator().manual_seed(1)
    outputs = [output for output in scores if output is not None and output.requires_grad]
    weights = [torch.randn(len(output), generator=generator).to(output) for output in outputs]
    return torch.autograd.grad(outputs, [i for i in inputs if i.requires_grad], weights)


def assert_same(found, expected, tolerance=2e-6):
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one.double(), other, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("block_elements")
@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden", "weight"])
@pytest.mark.parametrize("entropy", ["none", "value", "gradient"])
@pytest.mark.parametrize(("scaling", "softcap"), [(0.3, None), (1.0, 2.0)])
def test_scores_and_gradients_are_those_of_float64(device, trained, entropy, scaling, softcap):
    inputs = problem(device, trained=trained)
    options = {"temperature": 0.7, "entropy": entropy, "scaling": scaling, "softcap": softcap}
    found, (wide, expected) = token_scores(*inputs, **options), exact(*inputs, **options)
    assert_same(found, expected)
    assert_same(gradients(found, inputs[:3]), gradients(expected, wide))


@pytest.mark.parametrize("vocab", [1, 16, 17, 4096, 9001])
@pytest.mark.parametrize("trained", ["hidden weight", "hidden"])
def test_any_size_of_vocabulary_takes_whole_and_broken_parts_and_is_as_exact_as_pytorch(device, monkeypatch, vocab, trained):
    inputs = problem(device, trained=trained, size=(3, 4, vocab))
    options = {"temperature": 1.0, "entropy": "gradient", "softcap": 30.0}
    wide, expected = exact(*inputs, **options)
    wanted = [*expected, *gradients(expected, wide)]
    found = token_scores(*inputs, **options)
    by_kernels = [*found, *gradients(found, inputs[:3])]
    monkeypatch.setenv(score_kernels.SWITCH, "0")
    found = token_scores(*inputs, **options)
    by_pytorch = [*found, *gradients(found, inputs[:3])]
    for one, other, value in zip(by_kernels, by_pytorch, wanted, strict=True):
        assert (one - value).abs().max() < 1.5 * (other - value).abs().max() + 4e-6


@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-6), (torch.float16, 2**-9)])
def test_half_precision_is_near_float64_and_returns_float32(device, dtype, tolerance, trained):
    inputs = problem(device, dtype, trained, (9, 32, 300))
    options = {"temperature": 4.0, "entropy": "gradient"}
    found, (wide, expected) = token_scores(*inputs, **options), exact(*inputs, **options)
    assert found[0].dtype == found[1].dtype == torch.float32
    assert_same(found, expected, 8 * tolerance)
    for one, other in zip(gradients(found, inputs[:3]), gradients(expected, wide), strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).norm() < 2 * tolerance * other.norm()


def test_sums_over_half_precision_logits_are_exact_to_float32(device):
    hidden, weight, _, targets = problem(device, torch.bfloat16, "", (4, 8, 5_000))
    logprobs, entropy = token_scores(hidden, weight, None, targets, temperature=1.0, entropy="value")
    # A product of that dtype has the same roundings.
    logits = (hidden @ weight.T).double()
    expected = scores_from_logits(logits, targets, temperature=1.0, entropy="value")
    assert_same((logprobs, entropy), expected, 1e-5)


@pytest.mark.usefixtures("block_elements")
@pytest.mark.parametrize("trained", ["hidden weight", "hidden"])
def test_an_impossible_token_adds_nothing_to_the_entropy_or_its_gradient(device, trained):
    hidden, weight, bias, targets = problem(device, trained=trained)
    possible = torch.arange(11, device=device) % 3 != 1
    impossible = bias.masked_fill(~possible, -torch.inf)
    found = token_scores(hidden, weight, impossible, targets // 3 * 3, temperature=1.0, entropy="gradient")
    places = (possible.cumsum(0) - 1)[targets // 3 * 3]
    wide = [hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_("weight" in trained)]
    logits = linear(wide[0], wide[1][possible], bias[possible].double())
    expected = scores_from_logits(logits, places, temperature=1.0, entropy="gradient")
    assert_same(found, expected)
    assert_same(gradients(found, [hidden, weight]), gradients(expected, wide))


@pytest.mark.parametrize("temperature", [1e-6, 1e6])
@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden"])
def test_extreme_temperatures_do_not_overflow(device, temperature, trained):
    inputs = problem(device, trained=trained)
    scores = token_scores(*inputs, temperature=temperature, entropy="gradient")
    for value in (*scores, *gradients(scores, inputs[:3])):
        assert value.isfinite().all()
    assert (scores[1] >= -1e-6).all()


def test_nan_is_not_hidden(device):
    hidden, weight, _, targets = problem(device)
    with torch.no_grad():
        hidden[2, 0] = torch.nan
        logprobs, entropy = token_scores(hidden, weight, None, targets, temperature=1.0, entropy="value")
    for found in (logprobs, entropy):
        assert found.isnan().nonzero().flatten().tolist() == [2]


def test_soft_capping_of_small_logits_keeps_their_digits(device):
    inputs = problem(device, trained="hidden", scale=1e-3)
    options = {"temperature": 1e-6, "entropy": "none", "softcap": 50.0}
    found, (_, expected) = token_scores(*inputs, **options), exact(*inputs, **options)
    assert_same(found[:1], expected[:1], 4e-6)


def test_without_a_token_there_is_nothing(device):
    inputs = problem(device, size=(0, 5, 11))
    scores = token_scores(*inputs, temperature=1.0, entropy="gradient")
    assert [len(values) for values in scores] == [0, 0]
    for gradient in torch.autograd.grad(scores[0].sum() + scores[1].sum(), inputs[:3]):
        assert not gradient.any()


def test_a_switch_and_float64_and_a_cpu_keep_pytorch(monkeypatch):
    device = torch.device("cpu")
    assert score_kernels.score_kernels(device, torch.float32) is None
    monkeypatch.setattr(score_kernels, "DEVICES", {"cpu"})
    monkeypatch.setattr(score_kernels, "_tried", lambda device: "kernels")
    assert score_kernels.score_kernels(device, torch.float32) == "kernels"
    assert score_kernels.score_kernels(device, torch.float64) is None
    monkeypatch.setenv(score_kernels.SWITCH, "0")
    assert score_kernels.score_kernels(device, torch.float32) is None


@pytest.mark.parametrize("fault", ["raises", "computes something else"])
def test_kernels_that_do_not_run_are_named_once_and_pytorch_takes_over(monkeypatch, caplog, fault):
    class Kernel:
        def __getitem__(self, grid):
            return self

        def __call__(self, *arguments, **sizes):
            if fault == "raises":
                raise RuntimeError("Failed to find C compiler.")

    broken = SimpleNamespace(add_block=Kernel(), differentiate_block=Kernel())
    monkeypatch.setattr(score_kernels, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "plugrad.policy.triton_kernels", broken)
    monkeypatch.setattr(plugrad.policy, "triton_kernels", broken, raising=False)
    score_kernels._tried.cache_clear()
    with caplog.at_level("WARNING", logger="plugrad"):
        found = [score_kernels._tried(torch.device("cpu")) for _ in range(2)]
    score_kernels._tried.cache_clear()
    assert found == [None, None]
    told = "Failed to find C compiler" if fault == "raises" else "came out as"
    assert [told in record.getMessage() for record in caplog.records] == [True]


COMPILES = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from plugrad.policy import triton_kernels

POINTERS = {"places": "*i64", "peak": "*fp32", "total": "*fp32", "energy": "*fp32", "chosen": "*fp32", "normalizer": "*fp32",
    "entropy": "*fp32", "by_logprob": "*fp32", "by_entropy": "*fp32", "num_columns": "i32", "slope": "fp32", "inner": "fp32",
    "bound": "fp32"}
for dtype, capability in (("bf16", 80), ("fp16", 80), ("fp32", 90)):
    logits = {"logits": "*" + dtype, "energy_terms": "*" + dtype}
    for kernel in (triton_kernels.add_block, triton_kernels.differentiate_block):
        sizes = {name: True for name in kernel.arg_names if name.isupper()} | {"COLUMNS": 4096}
        signature = {name: "constexpr" if name in sizes else (logits | POINTERS)[name] for name in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=signature, constexprs=sizes)
        made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8})
        assert len(made.asm["cubin"]) > 1000
"""


@pytest.mark.skipif(not INTERPRETS or not HAS_TRITON, reason="needs Triton, and TRITON_INTERPRET=1")
def test_they_compile_for_gpus_that_are_not_here(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    program = tmp_path / "compiles.py"
    program.write_text(COMPILES)
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
