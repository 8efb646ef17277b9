"""What programs that serve models want of a finished one: `nlpft export --to NAME`. One file is one of them; it has

write(source, output, settings) -> list[str]   # fills the folder `output`; what is to be said of it, line by line
check(settings)                                # raises UserError for what is missing, before anything is loaded
HEADS = True                                   # only where it takes models with a head

`_source.py` says what `source` and `settings` are.
"""
