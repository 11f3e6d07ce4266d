"""A random model of under half a million parameters with a real tokenizer: the pipeline's tests run on it in seconds."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 768
CONTEXT = 4096

CHAT_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

_TEXT = (
    """<MARKER_LIST>
<code_type>python</code_type>
<domain>Code</domain>
<format>Markdown</format>
<lang>English</lang>
<length_bucket>concise</length_bucket>
<length_paragraphs>1</length_paragraphs>
<length_sentences>2</length_sentences>
<length_tokens>60</length_tokens>
<quality>0.5</quality>
<quality_bucket>1</quality_bucket>
<source>Human</source>
<style>Formal</style>
<task>CodeGeneration</task>
</MARKER_LIST>
""",
    """<domain>Conversation</domain>
<lang>French</lang>
<length_bucket>medium</length_bucket>
<source>Translation</source>
<style>Informal</style>
<task>QuestionAnswering</task>
<task>OpenEnded</task>
""",
    "You are a helpful assistant. The user asks a question, and the assistant writes the answer in the language of the question.",
    "Translate the following text into another language. Write a function that returns the sum of a list of numbers.",
    "What is the name of the capital of this country, and how many people live there? Explain it in two sentences.",
    "def add(first, second):\n    return first + second\n\n\nfor number in range(10):\n    print(number)\n",
    "Traduisez le texte suivant en français. Quelle est la capitale de ce pays, et combien de personnes y habitent ?",
    "Übersetzen Sie den folgenden Text. Wie heißt die Hauptstadt dieses Landes, und wie viele Menschen leben dort?",
    "Traduce el siguiente texto. ¿Cuál es la capital de este país y cuántas personas viven allí?",
    "Переведите следующий текст. Как называется столица этой страны и сколько людей там живёт?",
    "请翻译以下文字。这个国家的首都叫什么名字？有多少人住在那里？",
    "次の文章を翻訳してください。この国の首都は何といいますか。",
)


def tiny_tokenizer() -> Any:
    """A byte-level BPE tokenizer over `VOCABULARY` tokens with a ChatML template; every text comes back unchanged.

    All 256 bytes are in the vocabulary, so there is no unknown token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=1,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in _SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    end_of_text, start, end = _SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token=end_of_text,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def tiny_model(tokenizer: Any, seed: int) -> Any:
    """A Llama-like model with random weights drawn from `seed`, in bf16."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).to(torch.bfloat16)
