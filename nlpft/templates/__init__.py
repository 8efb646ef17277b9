"""Chat templates for models that bring none of their own. One file is one template; it has

CHAT_TEMPLATE: str      # Jinja, in transformers' dialect; written into the tokenizer that is saved with the model
SPECIAL_TOKENS: tuple   # special tokens that the tokenizer must know for it

`_chat.py` turns any such text, a tokenizer's own first of all, into segments.
"""
