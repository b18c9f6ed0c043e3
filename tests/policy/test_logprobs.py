"""Log-probs and entropy against the plain formulas, with gradients, and what they hold in memory."""

import pytest
import torch
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from plugrad.policy import blocks
from plugrad.policy.logprobs import scores_from_logits, token_scores

TOKENS, HIDDEN, VOCAB = 7, 5, 11


@pytest.fixture(autouse=True, params=[2**21, 12], ids=["one block", "many blocks"])
def block_elements(request, monkeypatch):
    """Twelve logits at once: three tokens and four entries of the vocabulary, and both leave a remainder."""
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", request.param)


def problem(dtype=torch.float64, trained="hidden weight bias", size=(TOKENS, HIDDEN, VOCAB)):
    generator = torch.Generator().manual_seed(0)
    tokens, hidden, vocab = size
    shapes = {"hidden": (tokens, hidden), "weight": (vocab, hidden), "bias": (vocab,)}
    tensors = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    inputs = [tensor.to(dtype).requires_grad_(name in trained) for name, tensor in tensors.items()]
    return *inputs, torch.randint(vocab, (tokens,), generator=generator)


def plain(hidden, weight, bias, targets, *, temperature, entropy, scaling=1.0, softcap=None):
    logits = linear(hidden, weight, bias) * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return scores_from_logits(logits, targets, temperature=temperature, entropy=entropy)


def gradients(scores, inputs, seed=1):
    """Return the gradients of a weighted sum of everything that has one."""
    generator = torch.Generator().manual_seed(seed)
    outputs = [output for output in scores if output is not None and output.requires_grad]
    weights = [torch.randn(len(output), generator=generator, dtype=torch.float64).to(output.dtype) for output in outputs]
    return torch.autograd.grad(outputs, [i for i in inputs if i is not None and i.requires_grad], weights)


def assert_same(found, expected, tolerance=1e-10):
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


TRAINED = ["hidden weight bias", "hidden", "weight", "hidden bias", "hidden weight"]


@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("entropy", ["none", "value", "gradient"])
@pytest.mark.parametrize(("scaling", "softcap"), [(1.0, None), (0.3, None), (1.0, 2.0), (0.3, 1.5)])
def test_scores_and_gradients_are_those_of_the_plain_formula(trained, entropy, scaling, softcap):
    inputs = problem(trained=trained)
    options = {"temperature": 0.7, "entropy": entropy, "scaling": scaling, "softcap": softcap}
    found, expected = token_scores(*inputs, **options), plain(*inputs, **options)
    assert_same(found, expected)
    assert_same(gradients(found, inputs[:3]), gradients(expected, inputs[:3]))


def test_without_a_bias_and_without_a_gradient():
    hidden, weight, _, targets = problem()
    with torch.no_grad():
        found = token_scores(hidden, weight, None, targets, temperature=0.7, entropy="value")
        assert_same(found, plain(hidden, weight, None, targets, temperature=0.7, entropy="value"))
    assert not found[0].requires_grad


@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden"])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_gradcheck(trained, softcap):
    *inputs, targets = problem(trained=trained)

    def scores(*inputs):
        return token_scores(*inputs, targets, temperature=0.7, entropy="gradient", softcap=softcap)

    assert torch.autograd.gradcheck(scores, inputs)


def test_entropy_as_a_value_carries_no_graph():
    logprobs, entropy = token_scores(*problem(), temperature=1.0, entropy="value")
    assert logprobs.requires_grad
    assert not entropy.requires_grad


@pytest.mark.parametrize("trained", ["hidden weight", "hidden"])
def test_an_impossible_token_adds_nothing_to_the_entropy_or_its_gradient(trained):
    hidden, weight, bias, targets = problem(trained=trained)
    impossible = bias.masked_fill(torch.arange(VOCAB) % 3 == 1, -torch.inf)
    targets = targets // 3 * 3
    found = token_scores(hidden, weight, impossible, targets, temperature=1.0, entropy="gradient")
    possible = torch.arange(VOCAB) % 3 != 1
    places = (possible.cumsum(0) - 1)[targets]
    expected = plain(hidden, weight[possible], bias[possible], places, temperature=1.0, entropy="gradient")
    assert_same(found, expected)
    assert_same(gradients(found, [hidden, weight]), gradients(expected, [hidden, weight]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-6, 1e6])
@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden"])
def test_extreme_temperatures_do_not_overflow(dtype, temperature, trained):
    inputs = problem(dtype, trained)
    scores = token_scores(*inputs, temperature=temperature, entropy="gradient")
    for value in (*scores, *gradients(scores, inputs[:3])):
        assert value.isfinite().all()
    assert (scores[1] >= -1e-6).all()
    assert (scores[1] <= torch.tensor(VOCAB).log() + 1e-6).all()


@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-6), (torch.float16, 2**-9)])
def test_half_precision_is_near_float32_and_returns_it(dtype, tolerance, trained):
    size = (9, 32, 300)
    inputs = problem(dtype, trained, size)
    exact = [i.detach().float().requires_grad_(i.requires_grad) for i in inputs[:3]]
    options = {"temperature": 4.0, "entropy": "gradient"}
    found, expected = token_scores(*inputs, **options), plain(*exact, inputs[3], **options)
    assert found[0].dtype == found[1].dtype == torch.float32
    assert_same(found, expected, 8 * tolerance)
    for one, other in zip(gradients(found, inputs[:3]), gradients(expected, exact), strict=True):
        assert one.dtype == dtype
        assert (one.float() - other).norm() < 2 * tolerance * other.norm()


@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_it_is_as_near_to_float32_as_the_plain_path(dtype, trained):
    inputs = problem(torch.float32, trained, (9, 32, 300))
    options = {"temperature": 4.0, "entropy": "gradient"}
    exact = plain(*inputs, **options)
    with torch.autocast("cpu", dtype):
        found, reference = token_scores(*inputs, **options), plain(*inputs, **options)
    assert found[0].dtype == torch.float32
    # The logits of both are the same halves; only the gradients' halves are rounded in other places.
    assert_same(found, reference, 1e-5)
    of = [gradients(scores, inputs[:3]) for scores in (found, reference, exact)]
    for one, other, wanted in zip(*of, strict=True):
        assert one.dtype == torch.float32
        assert (one - wanted).norm() < 1.5 * (other - wanted).norm() + 1e-6


def test_autocast_leaves_float64_alone():
    inputs = problem()
    with torch.autocast("cpu", torch.bfloat16):
        found = token_scores(*inputs, temperature=1.0, entropy="value")
    assert_same(found, plain(*inputs, temperature=1.0, entropy="value"))


def test_sums_over_the_vocabulary_are_in_float32_for_bf16():
    hidden, weight = torch.randn(4, 8).bfloat16(), torch.randn(5_000, 8).bfloat16()
    logprobs, entropy = token_scores(hidden, weight, None, torch.arange(4), temperature=1.0, entropy="value")
    assert logprobs.dtype == entropy.dtype == torch.float32
    exact = (hidden @ weight.T).double().log_softmax(-1)
    torch.testing.assert_close(logprobs.double(), exact[torch.arange(4), torch.arange(4)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden"])
def test_no_token_gives_nothing_with_a_graph_and_gradients_of_zero(trained):
    inputs = problem(trained=trained, size=(0, HIDDEN, VOCAB))
    scores = token_scores(*inputs, temperature=1.0, entropy="gradient")
    assert [len(values) for values in scores] == [0, 0]
    for gradient in torch.autograd.grad(scores[0].sum() + scores[1].sum(), [i for i in inputs[:3] if i.requires_grad]):
        assert not gradient.any()


class Sizes(TorchDispatchMode):
    """Notes the elements of every tensor that an operation returns, and how often each operation runs."""

    def __init__(self):
        super().__init__()
        self.largest, self.calls = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        self.largest = max([self.largest, *(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in tensors)])
        self.calls.append(function.overloadpacket.__name__)
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden"])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_tokens_times_vocabulary_is_never_materialised(monkeypatch, dtype, trained, softcap):
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 1000)
    tokens, hidden, vocab = 96, 4, 640
    inputs = problem(dtype, trained, (tokens, hidden, vocab))
    options = {"temperature": 1.0, "entropy": "gradient", "softcap": softcap}
    with Sizes() as plainly:
        gradients(plain(*inputs, **options), inputs[:3])
    with Sizes() as fused:
        gradients(token_scores(*inputs, **options), inputs[:3])
    assert plainly.largest >= tokens * vocab
    # Nothing is larger than the head itself.
    assert fused.largest <= hidden * vocab < tokens * vocab // 20


@pytest.mark.parametrize(
    ("trained", "entropy", "products"),
    [
        ("", "value", 1),
        ("hidden weight bias", "none", 4),
        ("hidden weight bias", "gradient", 4),
        ("weight", "gradient", 3),
        ("hidden", "none", 2),
        ("hidden", "value", 2),
        ("hidden", "gradient", 3),
    ],
)
def test_a_gradient_that_nobody_wants_costs_no_matrix_product(monkeypatch, trained, entropy, products):
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 2**21)
    inputs = problem(trained=trained)
    with Sizes() as counted:
        scores = token_scores(*inputs, temperature=1.0, entropy=entropy)
        if trained:
            gradients(scores, inputs[:3])
    assert sum(name in {"mm", "addmm", "addmm_"} for name in counted.calls) == products


def test_without_gradient_only_the_forward_product_is_formed(monkeypatch):
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 2**21)
    for trained in ("hidden", "hidden weight bias"):
        with torch.no_grad(), Sizes() as counted:
            token_scores(*problem(trained=trained), temperature=1.0, entropy="gradient")
        assert sum(name in {"mm", "addmm", "addmm_"} for name in counted.calls) == 1


@pytest.mark.parametrize("used", [0, 1], ids=["logprobs", "entropy"])
@pytest.mark.parametrize("trained", ["hidden weight bias", "hidden"])
def test_only_one_of_the_two_results_is_used(used, trained):
    inputs = problem(trained=trained)
    found = token_scores(*inputs, temperature=0.7, entropy="gradient")[used]
    expected = plain(*inputs, temperature=0.7, entropy="gradient")[used]
    assert_same(gradients([found], inputs[:3]), gradients([expected], inputs[:3]))
