"""Which policy wins: the best mean, and those whose paired differences to it are chance."""

from nlpft.evaluation.sweep import Score, Scores, level, table


def scores(policy, values, rows=50):
    return [Score(rows, policy, seed, value) for seed, value in enumerate(values)]


def test_the_best_and_what_is_level_with_it_are_bold():
    found = [*scores("a", [0.7, 0.8, 0.9]), *scores("b", [0.72, 0.79, 0.87]), *scores("c", [0.6, 0.7, 0.8])]
    (line,) = table(found)[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[0] == "50"
    assert [cell.startswith("**") for cell in cells[1:]] == [True, True, False]
    assert cells[1] == "**0.800 ± 0.248**"


def test_pairs_count_not_means_alone():
    assert level([0.9, 0.8, 0.7], [0.7, 0.9, 0.7], 0.95)
    assert not level([0.90, 0.80, 0.70], [0.88, 0.78, 0.68], 0.95)


def test_each_number_of_rows_is_a_line():
    lines = table([*scores("a", [0.5, 0.6], 1000), *scores("a", [0.4, 0.5], 50)])
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["50", "1,000"]


def test_a_line_that_a_kill_cut_off_costs_only_itself(tmp_path):
    file = tmp_path / "scores.jsonl"
    kept = Scores(file, False)
    kept.add("x", Score(50, "a", 0, 0.5))
    file.write_text(file.read_text() + '{"key": "y", "sco')
    again = Scores(file, True)
    assert again["x"] == Score(50, "a", 0, 0.5)
    assert "y" not in again
    again.add("z", Score(50, "a", 1, 0.25))
    assert Scores(file, True)["z"].value == 0.25
