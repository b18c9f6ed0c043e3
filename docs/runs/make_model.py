"""Write an untrained model that knows chat messages and tools into a folder: `python make_model.py runs/untrained`."""

import sys

import torch
from conversations import Conversations
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Split
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
CALL = ["<tool_call>", "</tool_call>"]
TEMPLATE = (
    "{%- if tools %}<|system|>Tools: {% for tool in tools %}{{ tool.function.name }}{% endfor %}. "
    'A call: <tool_call>{"name": "multiply", "arguments": {"a": 1, "b": 2}}</tool_call><|end|>{% endif %}'
    "{%- for message in messages %}{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}{% endfor %}"
    "{%- if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of the conversations, in which each digit is a token."""
    rows = Conversations(500, 500).train_examples()
    texts = [text for row in rows for text in [row["reference"], *(each["content"] for each in row["prompt"])]]
    made = Tokenizer(BPE(unk_token="<unk>"))
    made.pre_tokenizer = Split(Regex(r"\d|</?tool_call>"), behavior="isolated")
    made.decoder = Fuse()
    special = ["<pad>", "<unk>", "<|end|>", *ROLES]
    made.train_from_iterator(texts, BpeTrainer(vocab_size=256, special_tokens=special, show_progress=False))
    made.add_tokens([AddedToken(token, normalized=False) for token in CALL])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|end|>",
        additional_special_tokens=ROLES,
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def main(folder: str) -> None:
    """Write the model and its tokenizer."""
    torch.manual_seed(0)
    texts = tokenizer()
    config = Qwen3Config(
        vocab_size=len(texts),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=texts.eos_token_id,
        pad_token_id=texts.pad_token_id,
        bos_token_id=None,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    texts.save_pretrained(folder)


if __name__ == "__main__":
    main(sys.argv[1])
