"""Measure a model on held-out data: `python measure.py nearest|pairs|nll|attacked MODEL FILE`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

EPS = 0.05
"""How far `attacked` moves each token's embedding, as in adversarial.toml."""


class Model:
    """A trained model, and what it makes of a completion with its end-of-sequence token."""

    def __init__(self, folder: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def read(self, prompt: str, completion: str) -> tuple[Tensor, float]:
        """Return the last hidden state, and the completion's log-prob."""
        ids, start = self._ids(prompt, completion)
        found = self._model(ids, output_hidden_states=True)
        logprobs = found.logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None])[start - 1 :]
        return found.hidden_states[-1][0, -1], float(logprobs.sum())

    def nll(self, prompt: str, completion: str, eps: float = 0.0) -> float:
        """Return the mean of -log pi over the completion, with every embedding moved by eps against it."""
        ids, start = self._ids(prompt, completion)
        embeddings = self._model.get_input_embeddings()(ids).detach().requires_grad_()

        def at(embedded: Tensor) -> Tensor:
            logits = self._model(inputs_embeds=embedded).logits[0, :-1]
            return cross_entropy(logits[start - 1 :], ids[0, start:])

        (slope,) = torch.autograd.grad(at(embeddings), embeddings)
        return at(embeddings + eps * normalize(slope, dim=-1)).item()

    def _ids(self, prompt: str, completion: str) -> tuple[Tensor, int]:
        before, after = (self._tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, completion))
        return torch.tensor([[*before, *after, self._tokenizer.eos_token_id]]), len(before)


def nearest(model: Model, rows: list[dict[str, Any]]) -> float:
    """Return the share of rows whose nearest other row, by the cosine of embeddings, has the same pattern."""
    embeddings = torch.stack([model.read(row["prompt"], row["reference"])[0] for row in rows])
    unit = normalize(embeddings, dim=1)
    closest = (unit @ unit.T).fill_diagonal_(-2).argmax(dim=1).tolist()
    return sum(rows[i]["pattern"] == rows[j]["pattern"] for i, j in enumerate(closest)) / len(rows)


def pairs(model: Model, rows: list[dict[str, Any]]) -> float:
    """Return the share of pairs whose chosen completion is the likelier one."""
    read = [[model.read(row["prompt"], text)[1] for text in row["references"]] for row in rows]
    return sum(chosen > rejected for chosen, rejected in read) / len(rows)


def nll(model: Model, rows: list[dict[str, Any]], eps: float = 0.0) -> float:
    """Return the mean of -log pi over the rows' tokens, in nats."""
    return sum(model.nll(row["prompt"], row["reference"], eps) for row in rows) / len(rows)


def attacked(model: Model, rows: list[dict[str, Any]]) -> float:
    """Return the same where the embeddings have moved."""
    return nll(model, rows, EPS)


MEASURES = {"nearest": nearest, "pairs": pairs, "nll": nll, "attacked": attacked}

if __name__ == "__main__":
    logging.disable_progress_bar()
    what, folder, file = sys.argv[1:]
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    sys.stdout.write(f"{MEASURES[what](Model(folder), rows):.3f}\n")
