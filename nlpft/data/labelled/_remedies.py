"""What a user can do about labelled rows that are rejected, by reason."""

REMEDIES = {
    "empty text": "write the text, or delete the row",
    "no label": "label the row, or delete it",
    "label unseen in training": "put rows of this label into the training split, or mend a misspelt label",
    "target is no number": "write a number, or take --problem_type single_label_classification for names",
    "label is neither 0 nor 1": "write 0 or 1 in each column of --columns.label",
    "no text column": "the row lacks the column of the text: see --columns.text",
    "as many tags as words are needed": "give each word one tag; blanks within a word part it",
    "a word without a tag": "write word and tag on each line; lines of a document's frame begin with -DOCSTART- or #",
    "no words": "write words, or delete the row",
    "no token": "the tokenizer makes no token of this text: delete the row",
    "a word without a token": "the tokenizer drops this word and has no token for unknown ones: delete or replace the word",
    "text is also in another split": "nothing: it would teach the test (--leak report keeps it)",
    "same text and label as an earlier row": "nothing: an earlier row says the same (--duplicates keep takes both)",
}
