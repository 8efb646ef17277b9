"""Plain: the turns' texts with a newline between, answers ended by the end-of-sequence token; for prompt and completion."""

SPECIAL_TOKENS = ()

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['content'] + (eos_token if message['role'] == 'assistant' else '\\n') }}"
    "{% endfor %}"
)
