"""Evaluation: tasks of lm-evaluation-harness, the user's held-out file, paired comparison, the report."""
