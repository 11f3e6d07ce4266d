"""How an example becomes text: the marker-aware chat template, prompts, completions.

The template is saved with the tokenizer and takes `markers`, so that `apply_chat_template(..., markers=...)`, and any engine that
passes arguments to the template, renders exactly what training rendered.
"""

from tailmark.chat.rendering import (
    control_tokens,
    end_of_turn,
    find_control_token,
    load_tokenizer,
    render_completion,
    render_list,
    render_prompt,
    require_marker_template,
    token_ids,
)
from tailmark.chat.template import Messages, SystemMessage, list_form, marker_template

__all__ = [
    "Messages",
    "SystemMessage",
    "control_tokens",
    "end_of_turn",
    "find_control_token",
    "list_form",
    "load_tokenizer",
    "marker_template",
    "render_completion",
    "render_list",
    "render_prompt",
    "require_marker_template",
    "token_ids",
]
