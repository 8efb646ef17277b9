"""Gemma: <start_of_turn>user or model, newline, content, <end_of_turn>; a system turn opens the first question (Google)."""

SPECIAL_TOKENS = ("<start_of_turn>", "<end_of_turn>")

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set system, turns = messages[0]['content'] + '\\n\\n', messages[1:] %}"
    "{% else %}{% set system, turns = '', messages %}{% endif %}"
    "{{ bos_token }}"
    "{% for message in turns %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}"
    "{{ (system if loop.first else '') + message['content'] + '<end_of_turn>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
