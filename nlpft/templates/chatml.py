"""ChatML: <|im_start|>role, newline, content, <|im_end|>, newline (OpenAI; Qwen, SmolLM2 and many others)."""

SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
