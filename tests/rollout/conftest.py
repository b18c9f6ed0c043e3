"""Tokenizers that add tokens of their own, as those of real models do."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
)


@pytest.fixture(scope="session")
def byte_tokenizer():
    """Make a byte-level tokenizer; it may put tokens around a text, and have a chat template and special tokens."""

    def make(*, bos=False, adds_eos=False, chat_template=None, special=(), **settings):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        named = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator([], trainers.BpeTrainer(special_tokens=named, initial_alphabet=alphabet))
        if bos or adds_eos:
            single = f"{'<s> ' if bos else ''}$A{' </s>' if adds_eos else ''}"
            added = [("<s>", 0), ("</s>", 1)]
            tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=added)
        made = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>" if bos else None, eos_token="</s>", pad_token="<pad>", **settings
        )
        made.chat_template = chat_template
        made.add_tokens([AddedToken(token, special=True) for token in special], special_tokens=True)
        return made

    return make


@pytest.fixture(scope="session")
def chat_template():
    """Return a template that ends turns with `<|im_end|>`, and reads `enable_thinking`."""
    return CHATML
