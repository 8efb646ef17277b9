"""Commands of `nlpft`. One file is one command; its first line is what `nlpft --help` says of it. It has

Config                  # its settings, positional ones too; without it `run` gets the words as they were typed
run(config) -> int      # the exit code (None: 0); raises UserError for what the user can mend
"""
