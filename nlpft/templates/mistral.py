"""Mistral: [INST] question [/INST] answer and the end-of-sequence token; a system turn opens the first question (Mistral AI)."""

SPECIAL_TOKENS = ()  # in most of its tokenizers [INST] is ordinary text

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{% set system, turns = messages[0]['content'] + '\\n\\n', messages[1:] %}"
    "{% else %}{% set system, turns = '', messages %}{% endif %}"
    "{{ bos_token }}"
    "{% for message in turns %}"
    "{% if message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}"
    "{% else %}{{ '[INST] ' + (system if loop.first else '') + message['content'] + ' [/INST]' }}"
    "{% endif %}"
    "{% endfor %}"
)
