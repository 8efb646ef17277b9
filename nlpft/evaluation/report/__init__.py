"""What a run folder holds, for people: a page (page.py), Markdown (markdown.py), plots as files, and the model card (card.py)."""
