"""What the user can do about a row that formats, repairs or the choice of learnt turns reject, by the reason of the rejection."""

REMEDIES = {
    # its form
    "not an object": "each row should be a JSON object: wrap it, or name another format",
    "row is nested too deeply": "no row of text needs so many levels: mend it where the file was made",
    "unknown format": "name its keys (--columns.messages, --columns.prompt and --columns.response, --columns.text), or --format",
    "no list of turns": "name the key that holds the list: --columns.messages KEY",
    "turn without role and content": "name the keys of a turn: --columns.role KEY --columns.content KEY",
    "no instruction and output": "name the keys: --columns.prompt KEY --columns.response KEY",
    "no prompt and completion": "name the keys: --columns.prompt KEY --columns.response KEY",
    "no text": "name the key: --columns.text KEY",
    "history is no list of pairs": "write history as [[question, answer], ...]",
    "unknown role": "say whose it is: --roles.user NAME, --roles.assistant NAME, --roles.system NAME or --roles.tool NAME",
    "not text": "write the value as text, or name another column",
    "not valid Unicode": "half a surrogate pair stands for no character: mend or delete it where the file was made",
    "unknown content part": "keep the parts of type text",
    "images, audio or video": "nlpft trains on text; rows that need no image to be understood can be had without the key",
    "reasoning in a field of its own": "write it into the content as your model does: <think>...</think> before the answer",
    # tools
    "tools not understood": "write tools as a list of JSON schemas or its JSON text, or switch them off: --columns.tools none",
    "tool call not understood": 'write a call as {"name": ..., "arguments": {...}} or its JSON text',
    "result of no call": "give each tool turn the id of a call in the turn before it, or leave the ids out",
    # what there is to learn
    "empty conversation": "nothing to learn: delete the row, or see whether --columns.messages names the right key",
    "no answer": "nothing to learn: no turn of the assistant follows one of the user",
    "empty answer": "nothing to learn: write the answer, or delete the row",
    "blank text": "nothing to learn: delete the row",
    "nothing is learnt": "the row or --learn marks no turn as learnt: mark one, or delete the row",
    "no field says what is learnt": "add the field (--columns.train KEY), or take --learn all",
    "field does not say what is learnt": "it should be true, false, all, last, first, or a list of one 0 or 1 for each turn",
    "loss weight is neither 0 nor 1": "a turn is learnt or not: write 0 or 1, or --columns.train none to learn all answers",
    "undesired answer": "rows of preferences marked false are not to be imitated; --columns.label none reads them all the same",
    "two answers to one question": "leave out the last turn or 'chosen', or --columns.chosen none",
    # repairs that are switched off
    "begins with an answer": "--repairs.leading_answer drop or context",
    "ends without an answer": "--repairs.trailing_turn",
    "two turns of one role": "--repairs.merge_turns",
    "system turn in the middle": "--repairs.hoist_system",
    "several system turns": "--repairs.join_systems",
    "blank turn": "--repairs.blank_turn",
    "byte order mark": "--repairs.bom",
    "CRLF line ends": "--repairs.crlf",
    "role alias": "--repairs.role_alias, or write the role as the format does",
    # other formats to be written
    "format cannot hold it": "write messages, which can hold every conversation, or text for raw text",
}
