"""Measure a model on held-out data: `python measure.py nearest|pairs MODEL FILE`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


class Model:
    """A trained model, and what it makes of a completion with its end-of-sequence token."""

    def __init__(self, folder: str) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def read(self, prompt: str, completion: str) -> tuple[Tensor, float]:
        """Return the last hidden state, and the completion's log-prob."""
        before, after = (self._tokenizer(text, add_special_tokens=False).input_ids for text in (prompt, completion))
        ids = torch.tensor([[*before, *after, self._tokenizer.eos_token_id]])
        found = self._model(ids, output_hidden_states=True)
        logprobs = found.logits[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None])[len(before) - 1 :]
        return found.hidden_states[-1][0, -1], float(logprobs.sum())


def nearest(model: Model, rows: list[dict[str, Any]]) -> float:
    """Return the share of rows whose nearest other row, by the cosine of embeddings, has the same pattern."""
    embeddings = torch.stack([model.read(row["prompt"], row["reference"])[0] for row in rows])
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    closest = (unit @ unit.T).fill_diagonal_(-2).argmax(dim=1).tolist()
    return sum(rows[i]["pattern"] == rows[j]["pattern"] for i, j in enumerate(closest)) / len(rows)


def pairs(model: Model, rows: list[dict[str, Any]]) -> float:
    """Return the share of pairs whose chosen completion is the likelier one."""
    read = [[model.read(row["prompt"], text)[1] for text in row["references"]] for row in rows]
    return sum(chosen > rejected for chosen, rejected in read) / len(rows)


if __name__ == "__main__":
    logging.disable_progress_bar()
    what, folder, file = sys.argv[1:]
    rows = [json.loads(line) for line in Path(file).read_text().splitlines()]
    sys.stdout.write(f"{ {'nearest': nearest, 'pairs': pairs}[what](Model(folder), rows):.3f}\n")
