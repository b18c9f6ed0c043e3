"""Divergences from a teacher against the plain formulas, with gradients, and what they hold in memory."""

import math
from itertools import product

import pytest
import torch
from torch.nn.functional import linear
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from plugrad import TeacherDivergence
from plugrad.policy import blocks
from plugrad.policy.divergences import LogitSource, compared_scores, compared_scores_from_logits, teacher_logits_of
from plugrad.policy.logprobs import token_scores

TOKENS, HIDDEN, VOCAB, TEACHER_HIDDEN = 7, 5, 11, 8
EACH_KIND = [TeacherDivergence("forward"), TeacherDivergence("reverse"), TeacherDivergence("jsd", beta=0.3)]
ASKED = {
    "forward": [TeacherDivergence("forward")],
    "reverse": [TeacherDivergence("reverse")],
    "jsd": [TeacherDivergence("jsd")],
    "forward over the other temperature": [TeacherDivergence("forward", 0.7)],
    "reverse over the other temperature": [TeacherDivergence("reverse", 0.7)],
    "jsd over the other temperature": [TeacherDivergence("jsd", 0.7, 0.9)],
    "nine at three temperatures": [
        TeacherDivergence(kind, t, 0.2) for kind in ("jsd", "forward", "reverse") for t in (2, 1, 0.7)
    ],
    "one twice": [TeacherDivergence("reverse", 2.0), TeacherDivergence("reverse", 2.0)],
}


@pytest.fixture(autouse=True, params=[2**21, 12], ids=["one block", "many blocks"])
def block_elements(request, monkeypatch):
    """Twelve logits at once: three tokens and four entries of the vocabulary, and both leave a remainder."""
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", request.param)


class Problem:
    """A student and a teacher that differ in everything."""

    def __init__(self, dtype=torch.float64, trained="hidden weight bias", sizes=(TOKENS, VOCAB, VOCAB), spread=1.0):
        generator = torch.Generator().manual_seed(0)
        tokens, vocab, teacher_vocab = sizes

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64).mul_(spread).to(dtype)

        self.hidden, self.weight, self.bias = (normal(*shape) for shape in ((tokens, HIDDEN), (vocab, HIDDEN), (vocab,)))
        for name in trained.split():
            getattr(self, name).requires_grad_()
        self.targets = torch.randint(vocab, (tokens,), generator=generator)
        shapes = (tokens, TEACHER_HIDDEN), (teacher_vocab, TEACHER_HIDDEN), (teacher_vocab,)
        self.teacher = LogitSource(*(normal(*shape) for shape in shapes), scaling=0.8, softcap=2.5)

    def scores(self, asked, *, temperature=1.0, entropy="none", **head):
        """Return log-probs, entropy and divergences, by the fused path."""
        inputs = self.hidden, self.weight, self.bias, self.targets, self.teacher
        return flat(compared_scores(*inputs, asked, temperature=temperature, entropy=entropy, **head))

    def logits(self, *, scaling=1.0, softcap=None):
        return capped(linear(self.hidden, self.weight, self.bias) * scaling, softcap)

    def dense(self, asked, *, temperature=1.0, entropy="none", **head):
        """Return the same from full logits."""
        logits = self.logits(**head), self.targets, teacher_logits_of(self.teacher)
        return flat(compared_scores_from_logits(*logits, asked, temperature=temperature, entropy=entropy))

    def plain(self, asked, *, temperature=1.0, entropy="none", **head):
        """Return the same by the formulas as papers write them."""
        logits = self.logits(**head)
        log_pi = (logits / temperature).log_softmax(-1)
        results = [log_pi.gather(1, self.targets.unsqueeze(1)).squeeze(1)]
        if entropy != "none":
            results.append(-(log_pi.exp() * log_pi).sum(-1))
        return [*results, *(divergence(logits, teacher_logits_of(self.teacher), one) for one in asked)]

    def gradients(self, results):
        """Return the gradients of a weighted sum of the results."""
        generator = torch.Generator().manual_seed(1)
        outputs = [output for output in results if output.requires_grad]
        weights = [torch.randn(len(o), generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs]
        inputs = [tensor for tensor in (self.hidden, self.weight, self.bias) if tensor.requires_grad]
        return torch.autograd.grad(outputs, inputs, weights)


def capped(logits, softcap):
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def flat(scores):
    return [values for values in (scores.logprobs, scores.entropy, *scores.divergences) if values is not None]


def divergence(logits, teacher_logits, asked):
    """Return the divergence over the first columns, as many as both have."""
    vocab = min(logits.shape[1], teacher_logits.shape[1])
    p_s, p_t = ((x[:, :vocab] / asked.temperature).softmax(-1) for x in (logits, teacher_logits))
    mixture = asked.beta * p_t + (1 - asked.beta) * p_s
    if asked.kind == "jsd":
        return asked.beta * kl(p_t, mixture) + (1 - asked.beta) * kl(p_s, mixture)
    return kl(p_t, p_s) if asked.kind == "forward" else kl(p_s, p_t)


def kl(p, q):
    return (p * (p / q).log()).sum(-1)


def assert_same(found, expected, tolerance=1e-12):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("entropy", ["none", "value", "gradient"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_and_gradients_are_those_of_the_plain_formulas(asked, entropy, temperature):
    heads = [{}, {"scaling": 0.6}, {"softcap": 1.5}, {"scaling": 0.6, "softcap": 1.5}]
    vocabularies = [(VOCAB, VOCAB), (VOCAB, VOCAB + 3), (VOCAB + 3, VOCAB)]
    for head, (vocab, teacher_vocab) in zip(heads * 3, vocabularies * 4, strict=True):
        problem = Problem(sizes=(TOKENS, vocab, teacher_vocab))
        options = {"temperature": temperature, "entropy": entropy, **head}
        found, dense, expected = (way(asked, **options) for way in (problem.scores, problem.dense, problem.plain))
        assert_same(found, expected)
        assert_same(dense, expected)
        if entropy == "value":
            expected[1] = expected[1].detach()
        of = problem.gradients(expected)
        assert_same(problem.gradients(found), of)
        assert_same(problem.gradients(dense), of)


@pytest.mark.parametrize(("trained", "vocab"), list(product(["hidden", "weight", "hidden bias", "bias"], [9, VOCAB, 13])))
def test_frozen_parts_of_the_student_get_no_gradient_and_change_nothing(trained, vocab):
    problem = Problem(trained=trained, sizes=(TOKENS, vocab, VOCAB))
    options = {"temperature": 0.7, "entropy": "gradient"}
    found, expected = problem.scores(EACH_KIND, **options), problem.plain(EACH_KIND, **options)
    assert_same(found, expected)
    assert_same(problem.gradients(found), problem.gradients(expected))


def test_a_hand_computed_value():
    """The student finds two tokens equally likely, the teacher one of them three times as likely as the other."""
    teacher = LogitSource(torch.ones(1, 1), torch.tensor([[math.log(3)], [0.0]]))
    asked = [*EACH_KIND[:2], TeacherDivergence("jsd")]
    student = torch.ones(1, 1), torch.zeros(2, 1), None, torch.tensor([0])
    found = compared_scores(*student, teacher, asked, temperature=1.0, entropy="none").divergences
    forward = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    reverse = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    mixed = [(0.75, 0.625), (0.25, 0.375), (0.5, 0.625), (0.5, 0.375)]
    expected = [forward, reverse, sum(p * math.log(p / m) for p, m in mixed) / 2]
    assert torch.stack(found).squeeze(1).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("vocab", [9, VOCAB, 13])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_gradcheck(vocab, softcap):
    problem = Problem(sizes=(2, vocab, VOCAB))
    asked = [*EACH_KIND, TeacherDivergence("jsd", 3.0, 0.8)]

    def scores(*inputs):
        options = {"temperature": 0.7, "entropy": "gradient", "softcap": softcap}
        return tuple(flat(compared_scores(*inputs, problem.targets, problem.teacher, asked, **options)))

    assert torch.autograd.gradcheck(scores, (problem.hidden, problem.weight, problem.bias))


@pytest.mark.parametrize("number", [0, 1])
def test_no_token_and_one_token(number):
    problem = Problem(sizes=(number, VOCAB, VOCAB))
    found, expected = (way(EACH_KIND, entropy="gradient") for way in (problem.scores, problem.plain))
    assert [len(values) for values in found] == [number] * 5
    assert_same(found, expected)
    assert_same(problem.gradients(found), problem.gradients(expected))


@pytest.mark.parametrize("used", range(5))
def test_only_one_of_the_results_is_used(used):
    problem = Problem()
    found, expected = (way(EACH_KIND, entropy="gradient") for way in (problem.scores, problem.plain))
    assert_same(problem.gradients([found[used]]), problem.gradients([expected[used]]))


@pytest.mark.parametrize("entropy", ["none", "value", "gradient"])
def test_a_teacher_changes_no_digit_of_log_probs_and_entropy(entropy):
    problem = Problem(torch.float32)
    options = {"temperature": 0.7, "entropy": entropy}
    alone = token_scores(problem.hidden, problem.weight, problem.bias, problem.targets, **options)
    beside = problem.scores([TeacherDivergence("reverse"), TeacherDivergence("jsd", 0.7)], **options)
    for one, other in zip([values for values in alone if values is not None], beside, strict=False):
        assert torch.equal(one, other)


def test_a_teacher_is_constant_and_nothing_asked_is_the_path_without_one():
    problem = Problem()
    own = LogitSource(problem.hidden, problem.weight, problem.bias)
    inputs = problem.hidden, problem.weight, problem.bias, problem.targets, own
    options = {"temperature": 1.0, "entropy": "none"}
    logprobs, _, divergences = compared_scores(*inputs, EACH_KIND, **options)
    assert all(torch.equal(value, torch.zeros(TOKENS, dtype=value.dtype)) for value in divergences)
    for gradient in problem.gradients(divergences):
        assert gradient.abs().max() < 1e-15
    nothing = compared_scores(*inputs, [], **options)
    assert torch.equal(nothing.logprobs, logprobs)
    assert nothing.divergences == ()


@pytest.mark.parametrize("vocab", [9, VOCAB])
def test_a_token_that_neither_can_choose_adds_nothing(vocab):
    problem = Problem(trained="hidden weight", sizes=(TOKENS, vocab, VOCAB))
    impossible = torch.arange(VOCAB) % 3 == 1
    problem.targets = problem.targets // 3 * 3
    problem.bias = problem.bias.masked_fill(impossible[:vocab], -torch.inf)
    head = problem.teacher.weight, problem.teacher.bias.masked_fill(impossible, -torch.inf)
    problem.teacher = LogitSource(problem.teacher.hidden, *head)
    found, dense = (way(EACH_KIND, entropy="gradient") for way in (problem.scores, problem.dense))
    for whole in (dense, found):
        gradients = problem.gradients(whole)
        possible = ~impossible[:vocab]
        small = Problem(trained="", sizes=(TOKENS, vocab, VOCAB))
        small.hidden, small.weight = problem.hidden, problem.weight.detach()[possible].requires_grad_()
        small.bias, small.targets = problem.bias[possible], (possible.cumsum(0) - 1)[problem.targets]
        small.teacher = LogitSource(problem.teacher.hidden, head[0][~impossible], head[1][~impossible])
        expected = small.plain(EACH_KIND, entropy="gradient")
        assert_same(whole, expected)
        by_hidden, by_weight = small.gradients(expected)
        assert_same([gradients[0], gradients[1][possible]], [by_hidden, by_weight])
        assert not gradients[1][~possible].any()


def test_a_token_that_only_one_of_them_can_choose():
    """A forward or reverse divergence is infinite. A mixture is bounded."""
    for whose in ("student", "teacher"):
        problem = Problem(trained="hidden")
        where = torch.arange(VOCAB) == 4
        problem.targets = torch.zeros_like(problem.targets)
        if whose == "student":
            problem.bias = problem.bias.masked_fill(where, -torch.inf)
        else:
            bias = problem.teacher.bias.masked_fill(where, -torch.inf)
            problem.teacher = LogitSource(problem.teacher.hidden, problem.teacher.weight, bias)
        infinite, finite = (0, 1) if whose == "student" else (1, 0)
        for values in (problem.scores(EACH_KIND)[1:], problem.dense(EACH_KIND)[1:]):
            assert values[infinite].isposinf().all()
            assert values[finite].isfinite().all()
            assert ((values[2] > 0) & (values[2] < math.log(2))).all()
        for way, asked in product((problem.scores, problem.dense), (EACH_KIND[finite], EACH_KIND[2])):
            assert problem.gradients(way([asked]))[0].isfinite().all()
        # What is infinite and does not count has no gradient.
        fused = problem.scores(EACH_KIND)
        assert_same(problem.gradients([fused[1 + finite]]), problem.gradients([problem.scores([EACH_KIND[finite]])[1]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("vocab", [9, VOCAB])
def test_logits_far_apart_give_finite_values_and_gradients(dtype, distance, vocab):
    problem = Problem(dtype, sizes=(TOKENS, vocab, VOCAB))
    problem.teacher = LogitSource(*(getattr(problem.teacher, name) * distance**0.5 for name in ("hidden", "weight", "bias")))
    with torch.no_grad():
        problem.hidden.mul_(distance**0.5)
        problem.weight.mul_(-(distance**0.5))
    asked = [*EACH_KIND, TeacherDivergence("reverse", 1e-3), TeacherDivergence("jsd", 1e3)]
    for way in (problem.scores, problem.dense):
        values = way(asked, entropy="gradient")
        assert max(value.max() for value in values[2:4]) > distance
        for value in (*values, *problem.gradients(values)):
            assert value.isfinite().all()
        assert all((value >= 0).all() for value in values[2:])
        # No gradient is lost where a distribution has one token alone.
        assert problem.gradients([way(EACH_KIND)[1]])[0].abs().max() > distance**0.5 / 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("temperature", "other"), [(1e-6, 1e6), (1e6, 1e-6), (1e6, 1.0)])
def test_extreme_temperatures_do_not_overflow(dtype, temperature, other):
    problem = Problem(dtype)
    asked = [TeacherDivergence(one.kind, other) for one in EACH_KIND]
    for way in (problem.scores, problem.dense):
        values = way(asked, temperature=temperature, entropy="gradient")
        for value in (*values, *problem.gradients(values)):
            assert value.isfinite().all()


@pytest.mark.parametrize("shift", [0.0, 60.0])
@pytest.mark.parametrize("closeness", [1.0, 1e-3, 1e-5])
def test_float32_sums_lose_less_than_a_millionth_of_a_nat(monkeypatch, shift, closeness):
    """Both models' logits are large and the gap is small, so the gap of raw logits would be off by 4e-6."""
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 2**14)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 2_000, generator=generator) * 2 + shift
    teacher_logits = logits + closeness * torch.randn(16, 2_000, generator=generator)
    # The hidden states choose rows of the logits, so the products are exact.
    hidden, targets = torch.eye(16), torch.zeros(16, dtype=torch.long)
    teacher = LogitSource(hidden, teacher_logits.T.contiguous())
    options = {"temperature": 1.0, "entropy": "none"}
    found = compared_scores(hidden, logits.T.contiguous(), None, targets, teacher, EACH_KIND, **options).divergences
    exact = [divergence(logits.double(), teacher_logits.double(), one) for one in EACH_KIND]
    for one, other in zip(found, exact, strict=True):
        assert (one - other).abs().max() < 7e-7
        assert (one >= 0).all()
    # A Jensen-Shannon divergence keeps its digits even where it is tiny.
    torch.testing.assert_close(found[2].double(), exact[2], rtol=2e-3, atol=1e-7 if closeness == 1 else 1e-11)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_float32_and_never_negative(dtype):
    problem = Problem(dtype, sizes=(TOKENS, 300, 310), spread=0.5)
    exact = Problem(torch.float64, sizes=(TOKENS, 300, 310), spread=0.5)
    found, expected = problem.scores(EACH_KIND, entropy="gradient"), exact.plain(EACH_KIND, entropy="gradient")
    assert {values.dtype for values in found} == {torch.float32}
    assert_same([values.double() for values in found], expected, 0.03)
    for one, other in zip(problem.gradients(found), exact.gradients(expected), strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).norm() < 0.03 * other.norm()
    problem.teacher = LogitSource(problem.hidden * (1 + 2**-7), problem.weight, problem.bias)
    for values in problem.scores(EACH_KIND)[1:]:
        assert (values >= 0).all()


@pytest.mark.parametrize(("student", "teacher"), [(torch.bfloat16, torch.float32), (torch.float32, torch.float64)])
def test_student_and_teacher_may_have_different_dtypes(student, teacher):
    problem = Problem(student)
    theirs = Problem(teacher).teacher
    same = LogitSource(*(getattr(theirs, name).to(student).to(teacher) for name in ("hidden", "weight", "bias")))
    problem.teacher = same
    exact = Problem(torch.float64)
    exact.teacher = LogitSource(*(tensor.double() for tensor in (same.hidden, same.weight, same.bias)))
    found = problem.scores(EACH_KIND)
    assert {values.dtype for values in found} == {torch.float32}
    assert_same([values.double() for values in found], exact.plain(EACH_KIND), 0.05 if student == torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_chooses_the_dtype_of_both_models_products_and_leaves_float64_alone(dtype):
    for own, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        problem = Problem(own)
        with torch.autocast("cpu", dtype):
            found, dense = problem.scores(EACH_KIND), problem.dense(EACH_KIND)
        assert {values.dtype for values in found} == {own}
        # The logits of both are the same halves.
        assert_same(found, dense, tolerance)
        for gradient in problem.gradients(found):
            assert gradient.dtype == own


class Sizes(TorchDispatchMode):
    """Notes the elements of the largest tensor that an operation returns, and how many matrix products are formed."""

    def __init__(self):
        super().__init__()
        self.largest, self.products = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(found) if isinstance(leaf, torch.Tensor)]
        self.largest = max([self.largest, *(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in tensors)])
        self.products += function.overloadpacket.__name__ in {"mm", "addmm", "addmm_"}
        return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("sizes", [(48, 160, 160), (48, 160, 140)])
def test_tokens_times_vocabulary_is_never_materialised(monkeypatch, dtype, softcap, sizes):
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 400)
    problem = Problem(dtype, sizes=sizes)
    asked = [*EACH_KIND, TeacherDivergence("jsd", 2.0)]
    with Sizes() as fused:
        problem.gradients(problem.scores(asked, entropy="gradient", softcap=softcap))
    # Nothing is larger than the larger head itself.
    assert fused.largest <= TEACHER_HIDDEN * sizes[1] < sizes[0] * sizes[1] // 5


@pytest.mark.parametrize(
    ("asked", "trained", "products"),
    [
        ("forward", "hidden weight bias", 6),
        ("reverse", "hidden weight bias", 6),
        ("jsd", "hidden weight bias", 8),
        ("nine at three temperatures", "hidden weight bias", 8),
        ("forward", "hidden", 5),
        ("reverse", "", 2),
    ],
)
def test_each_sweep_costs_one_matrix_product_a_model(monkeypatch, asked, trained, products):
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 2**21)
    problem = Problem(trained=trained)
    with Sizes() as counted:
        found = problem.scores(ASKED[asked])
        if trained:
            problem.gradients(found)
    assert counted.products == products
