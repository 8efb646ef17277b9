"""Zephyr: <|role|>, newline, content, the end-of-sequence token, newline (Hugging Face H4)."""

SPECIAL_TOKENS = ()  # the role's marks are ordinary text

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
