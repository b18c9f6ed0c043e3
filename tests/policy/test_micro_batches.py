"""Cutting: whole sequences, under the budget, nothing lost."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugrad import DataError
from plugrad.policy.micro_batches import Layout, TrainingSequence, cut
from plugrad.policy.reductions import Counts


def sequence(length, counted, row=0):
    mask = [False] * (length - counted) + [True] * counted
    return TrainingSequence(
        [row + 1] * length, mask, [1.0] * length, [-1.0] * length, 0.5, row // 2, row % 2, {"example_id": row}
    )


def cut_all(sequences, budget):
    counts = Counts(sum(s.counted_tokens for s in sequences), len(sequences), len({s.group_id for s in sequences}), 8)
    return cut(sequences, counts, Layout(budget, pad_token_id=0, dtype=torch.float64))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(2, 20), st.integers(0, 2)), min_size=1, max_size=30), st.integers(20, 80))
def test_every_counted_sequence_is_in_one_micro_batch_under_the_budget(lengths, budget):
    sequences = [sequence(length, counted, row) for row, (length, counted) in enumerate(lengths)]
    micro_batches = cut_all(sequences, budget)
    rows = [row for micro_batch in micro_batches for row in micro_batch.rows]
    assert sorted(rows) == [row for row, s in enumerate(sequences) if s.counted_tokens]
    for micro_batch in micro_batches:
        assert micro_batch.input_ids.numel() <= budget
        for place, row in enumerate(micro_batch.rows):
            length = len(sequences[row].input_ids)
            assert micro_batch.input_ids[place, :length].tolist() == sequences[row].input_ids
            assert not micro_batch.input_ids[place, length:].any()
            assert micro_batch.attention_mask[place].sum() == length
            assert micro_batch.loss_mask[place].sum() == sequences[row].counted_tokens
            assert micro_batch.row_counts.tokens[place] == sequences[row].counted_tokens


def test_group_tokens_are_counted_over_the_whole_group_wherever_its_rows_go():
    sequences = [sequence(10, 3, 0), sequence(4, 2, 1), sequence(5, 1, 2)]
    found = {row: int(m.row_counts.group_tokens[i]) for m in cut_all(sequences, 10) for i, row in enumerate(m.rows)}
    assert found == {0: 5, 1: 5, 2: 1}


def test_a_sequence_over_the_budget_is_an_error_with_both_numbers():
    with pytest.raises(
        DataError, match=r"example 3 has 12 tokens, but tokens_per_micro_batch is 10: raise it to at least 12"
    ):
        cut_all([sequence(12, 2, 3)], 10)


def test_where_nothing_counts_one_micro_batch_without_rows_is_left():
    (micro_batch,) = cut_all([sequence(5, 0), sequence(6, 0)], 100)
    assert micro_batch.rows == []
    assert not micro_batch.loss_mask.any()
    assert micro_batch.counts.sequences == 2


def test_replayed_completions_have_no_inference_logprobs():
    replayed = TrainingSequence([1, 2], [False, True], [0.0, 1.0], None, 1.0, 0, 0, {})
    (micro_batch,) = cut_all([replayed], 10)
    assert micro_batch.inference_logprobs is None
