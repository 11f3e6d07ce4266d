"""Stand-ins for the families of chat models: the structure of each one's template, and a tokenizer of its kind with a tiny vocabulary."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import GemmaTokenizer, LlamaTokenizer

from tailmark.base.tiny import CHAT_TEMPLATE, tiny_tokenizer
from tailmark.chat import control_tokens, load_tokenizer, marker_template
from tailmark.chat.vocabulary import add_marker_tokens
from tailmark.taxonomy import Rendering

# Roles alternate, the system message is not known, texts lose the blanks around them.
GEMMA = """{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role here') }}{% endif %}
{%- for message in messages %}
{%- if (message.role == 'user') != (loop.index0 is even) %}{{ raise_exception('roles must alternate') }}{% endif %}
{{- '<start_of_turn>' ~ ('model' if message.role == 'assistant' else 'user') ~ '\\n' ~ message.content|trim ~ '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

# The system message goes into the first user turn; content may be parts.
GEMMA_3 = """{{ bos_token }}
{%- set prefix = '' %}{%- set turns = messages %}
{%- if messages[0].role == 'system' %}
  {%- set prefix = (messages[0].content if messages[0].content is string else messages[0].content[0].text) ~ '\\n\\n' %}
  {%- set turns = messages[1:] %}
{%- endif %}
{%- for message in turns %}
  {{- '<start_of_turn>' ~ ('model' if message.role == 'assistant' else 'user') ~ '\\n' ~ (prefix if loop.first else '') }}
  {%- if message.content is string %}{{ message.content|trim }}
  {%- else %}{% for part in message.content if part.type == 'text' %}{{ part.text|trim }}{% endfor %}
  {%- endif %}
  {{- '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

LLAMA_3 = """{% for message in messages %}{% set turn = '<|start_header_id|>' + message['role'] + '<|end_header_id|>

' + message['content'] | trim + '<|eot_id|>' %}{% if loop.first %}{% set turn = bos_token + turn %}{% endif %}{{ turn }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>

' }}{% endif %}"""

# Always a system turn, with the day in it; calls of tools.
LLAMA_3_2 = """{{- bos_token }}
{%- set today = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' %}
{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set told = '' %}{%- endif %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday: ' ~ today ~ '\\n\\n' ~ told ~ '<|eot_id|>' }}
{%- for message in messages %}
  {%- if 'tool_calls' in message %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' ~ message.tool_calls|tojson ~ '<|eot_id|>' }}
  {%- else %}
    {{- '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\\n\\n' ~ message['content']|trim ~ '<|eot_id|>' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

# A user turn between brackets, answers end with the end-of-sequence token, the system message stands in the last user turn.
MISTRAL = """{%- if messages[0]['role'] == 'system' %}{%- set told = messages[0]['content'] ~ '\\n\\n' %}{%- set turns = messages[1:] %}
{%- else %}{%- set told = '' %}{%- set turns = messages %}{%- endif %}
{{- bos_token }}
{%- for message in turns %}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('roles must alternate') }}{%- endif %}
  {%- if message['role'] == 'user' %}{{- '[INST] ' ~ (told if loop.last else '') ~ message['content'] ~ '[/INST]' }}
  {%- else %}{{- ' ' ~ message['content']|trim ~ eos_token }}{%- endif %}
{%- endfor %}"""

# A default system message, tools in the system turn, results of tools as user turns.
QWEN = """{%- if tools %}
  {{- '<|im_start|>system\\n' ~ (messages[0].content if messages[0].role == 'system' else 'You are Q.') ~ '\\n<tools>' }}
  {%- for tool in tools %}{{- '\\n' ~ tool|tojson }}{%- endfor %}{{- '\\n</tools><|im_end|>\\n' }}
{%- else %}
  {%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' ~ messages[0].content ~ '<|im_end|>\\n' }}
  {%- else %}{{- '<|im_start|>system\\nYou are Q.<|im_end|>\\n' }}{%- endif %}
{%- endif %}
{%- for message in messages %}
  {%- if message.role == 'user' or (message.role == 'assistant' and not message.tool_calls) %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}
  {%- elif message.role == 'assistant' %}
    {{- '<|im_start|>assistant' ~ ('\\n' ~ message.content if message.content else '') }}
    {%- for call in message.tool_calls %}{{- '\\n<tool_call>\\n' ~ call.function|tojson ~ '\\n</tool_call>' }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
  {%- elif message.role == 'tool' %}
    {{- '<|im_start|>user\\n<tool_response>\\n' ~ message.content ~ '\\n</tool_response><|im_end|>\\n' }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


@dataclass(frozen=True)
class Family:
    """A template, the special tokens it writes, how text is tokenized, and what the template does not take."""

    template: str
    specials: tuple[str, ...]
    end: str
    kind: str = "bytes"
    system: bool = True
    trims: bool = False


FAMILIES = {
    "chatml": Family(CHAT_TEMPLATE, (), "<|im_end|>"),
    "llama3": Family(LLAMA_3, ("<|begin|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>", trims=True),
    "llama3.2": Family(LLAMA_3_2, ("<|begin|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>", trims=True),
    "qwen": Family(QWEN, (), "<|im_end|>"),
    "gemma": Family(GEMMA, ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", "gemma", system=False, trims=True),
    "gemma3": Family(GEMMA_3, ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>", "gemma", trims=True),
    "mistral": Family(MISTRAL, ("[INST]", "[/INST]"), "</s>", "llama"),
}


def _bytes_vocabulary(*specials: str) -> dict[str, int]:
    tokens = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), *map(str, range(10, 30))]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def _tokenizer(family: Family) -> Any:
    if family.kind == "gemma":
        return GemmaTokenizer(vocab=_bytes_vocabulary("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"), merges=[])
    if family.kind == "llama":
        return LlamaTokenizer(vocab=_bytes_vocabulary("<unk>", "<s>", "</s>"), merges=[])
    return tiny_tokenizer()


@cache
def family_tokenizer(name: str, folder: Path) -> Path:
    """A folder with the family's tokenizer and its own template, as a base model has it."""
    family = FAMILIES[name]
    tokenizer = _tokenizer(family)
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in family.specials])
    tokenizer.chat_template = family.template
    tokenizer.save_pretrained(folder / name)
    return folder / name


_marked: dict[tuple[str, str, Path], Any] = {}


def marked_tokenizer(name: str, rendering: Rendering, folder: Path, values: Mapping[str, tuple[str, ...]]) -> Any:
    """The family's tokenizer as `prepare` makes it."""
    key = (name, rendering, folder)
    if key not in _marked:
        tokenizer = load_tokenizer(family_tokenizer(name, folder))
        compact = values if rendering == "compact" else None
        tokenizer.chat_template = marker_template(tokenizer.chat_template, compact=compact, control=control_tokens(tokenizer))
        if compact:
            add_marker_tokens(tokenizer, compact)
        _marked[key] = tokenizer
    return _marked[key]


def real_templates() -> list[Path]:
    """The templates of released models that an installed TRL carries; none without it."""
    spec = importlib.util.find_spec("trl")
    folders = [Path(place) / "chat_templates" for place in spec.submodule_search_locations or ()] if spec else []
    return sorted(path for folder in folders for path in folder.glob("*.jinja") if not path.stem.endswith("_training"))
